"""The look at W before training finds the starts that are lost, and no others."""

import math
import warnings

import pytest
import torch
from torch import nn

from rankscope.metrics import effective_rank
from rankscope.weights import MLP, CollapsedStartWarning, Kronecker, LowRank, Nonlinear, StructuredLinear, diagnose


def network(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(StructuredLinear(make(100, 40)), nn.ReLU(), StructuredLinear(make(10, 100)))


@pytest.mark.parametrize("seed", range(10))
def test_the_experiments_nlmf_is_found_collapsed(seed):
    with pytest.warns(CollapsedStartWarning, match="has collapsed before training: W is nearly constant"):
        table = diagnose(network(lambda o, i: Nonlinear(MLP(start="original"), LowRank(o, i, 4)), seed))
    worst = table.loc[table["top_energy"].idxmax()]
    assert worst["problem"]
    assert abs(worst["mean"]) > worst["std"]
    assert worst["effective_rank"] < 8


@pytest.mark.parametrize("seed", range(3))
def test_calibrated_starts_are_not(make, seed):
    torch.manual_seed(seed)
    try:
        layer = StructuredLinear(make((12, 40), seed))
    except ValueError as unsuitable:
        pytest.skip(str(unsuitable))
    if "original" in layer.structure.label:
        pytest.skip("the start that collapses")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not diagnose(layer)["problem"].any()


def test_a_rank_one_structure_has_not_collapsed():
    for make in (lambda o, i: LowRank(o, i, 1), lambda o, i: Nonlinear(MLP(), LowRank(o, i, 1))):
        for seed in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                diagnose(network(make, seed))


def test_what_it_measures_is_what_is_there():
    model = nn.Sequential(nn.Linear(40, 30), StructuredLinear(Kronecker(20, 30)))
    table = diagnose(model)
    W = model[0].weight.detach().double()
    row = table.iloc[0]
    assert (row["structure"], row["shape"], row["max_rank"]) == ("nn.Linear", "30×40", 30)
    assert row["mean"] == pytest.approx(float(W.mean()))
    assert row["std_ratio"] == pytest.approx(float(W.std(correction=0)) * math.sqrt(120))
    assert row["effective_rank"] == pytest.approx(float(effective_rank(W)))
    sigma = torch.linalg.svdvals(W)
    assert row["top_energy"] == pytest.approx(float(sigma[0] ** 2 / sigma.square().sum()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda W: W.mul_(0.01), "std is 0.0[01].* times nn.Linear's"),
        (lambda W: W.mul_(100), "std is 1.. times nn.Linear's"),
        (lambda W: W.zero_(), "std is 0 times nn.Linear's"),
        (lambda W: W.add_(1), "W is nearly constant .*one direction of 30 has 9"),
        (lambda W: W.copy_(torch.outer(W[:, 0], W[0]) * 20), "one direction of 30 has 100.0%"),
    ],
)
def test_each_way_to_collapse_is_named(change, problem):
    model = nn.Linear(40, 30)
    with torch.no_grad():
        change(model.weight)
    with pytest.warns(CollapsedStartWarning, match=problem):
        diagnose(model)


def test_there_must_be_something_to_look_at():
    with pytest.raises(ValueError, match=r"must have an nn.Linear or StructuredLinear layer, got none"):
        diagnose(nn.ReLU())
