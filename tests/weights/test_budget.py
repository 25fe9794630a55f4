"""Sizes for a budget: never above it, never needlessly below."""

import pytest

from rankscope.weights import MLP, Budget, Dense, Family, Kronecker, LowRank, Monarch, Nonlinear, Structure, fit_budget

SHAPES = [(100, 40), (10, 100)]
NLMF = Family(lambda o, i, k: Nonlinear(MLP(), LowRank(o, i, k)), largest=min)


def spent(structures: list[Structure], bias: int = 110) -> int:
    return sum(structure.num_parameters for structure in structures) + bias


def test_the_budgets_of_the_experiment_give_its_models():
    assert [part.rank for part in fit_budget(SHAPES, LowRank, parameters=2110)] == [8, 8]
    assert [part.rank for part in fit_budget(SHAPES, LowRank, parameters=1110)] == [4, 4]
    assert [part.inner.rank for part in fit_budget(SHAPES, NLMF, parameters=1208)] == [4, 4]
    assert spent(fit_budget(SHAPES, Dense, parameters=5110)) == 5110


@pytest.mark.parametrize(
    "family", [LowRank, Kronecker, Monarch, NLMF], ids=["low-rank", "kronecker", "monarch", "nlmf"]
)
@pytest.mark.parametrize("amount", [1400, 1999, 3001])
def test_a_budget_is_kept_and_no_layer_could_be_larger(family, amount):
    structures = fit_budget(dict(zip("ab", SHAPES, strict=True)), family, parameters=amount)
    total = spent(structures)
    assert total <= amount
    make, largest = Budget(family, amount).family.make, Budget(family, amount).family.largest
    for structure, (out, in_) in zip(structures, SHAPES, strict=True):
        size = next(k for k in range(1, largest(out, in_) + 1) if make(out, in_, k).label == structure.label)
        if size < largest(out, in_):
            grown = make(out, in_, size + 1).num_parameters - structure.num_parameters
            assert total + grown > amount


@pytest.mark.parametrize("amount", [3000, 8000])
def test_operations_are_kept_to(amount):
    for family in (LowRank, Kronecker, Monarch):
        assert 0.6 * amount < sum(part.flops() for part in fit_budget(SHAPES, family, flops=amount)) <= amount


def test_a_layer_that_can_grow_no_more_leaves_the_rest_to_the_others():
    ranks = [part.rank for part in fit_budget([(100, 90), (3, 90)], LowRank, parameters=10_000)]
    assert ranks[1] == 3
    assert ranks[0] == (10_000 - 103 - 3 * 93) // 190


def test_the_bias_is_part_of_the_budget_where_there_is_one():
    assert fit_budget([(10, 20)], LowRank, parameters=69)[0].rank == 1
    assert fit_budget([(10, 20)], LowRank, parameters=70)[0].rank == 2
    assert fit_budget([(10, 20)], LowRank, parameters=60, bias=False)[0].rank == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fit_budget(SHAPES, LowRank, parameters=359),
            "must be at least 360 parameters for these 2 layers, got 359",
        ),
        (lambda: fit_budget(SHAPES, LowRank, flops=10), "must be at least 500 flops for these 2 layers, got 10"),
        (lambda: fit_budget(SHAPES, LowRank), "must be either parameters or flops, got None and None"),
        (lambda: fit_budget(SHAPES, LowRank, parameters=9, flops=9), "must be either parameters or flops, got 9 and 9"),
        (lambda: fit_budget(SHAPES, LowRank, parameters=0), "must be positive, got 0 parameters"),
        (lambda: fit_budget([], LowRank, parameters=9), "shapes must name at least one layer"),
        (lambda: fit_budget(SHAPES, Nonlinear, parameters=9), "must be one of Dense, LowRank, Kronecker, Monarch or a"),
        (lambda: fit_budget([(7, 5)], Kronecker, parameters=900), "needs a size of W that factors, got 7×5"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
