"""A user's own model, compressed and merged back: what it computes, what it costs, and that errors leave it alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
from rankscope.weights import (
    MLP,
    Budget,
    Dense,
    Kronecker,
    LowRank,
    Monarch,
    Nonlinear,
    StructuredLinear,
    compress,
    merge,
)


class Model(nn.Module):
    """Layers in a list, one without a bias, one used twice under two names, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 20)
        self.blocks = nn.ModuleList([nn.Linear(20, 20, bias=False), nn.Linear(20, 20)])
        self.again = self.blocks[1]
        self.conv = nn.Conv1d(1, 1, 3, padding=1)
        self.head = nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = self.conv(self.blocks[0](x)[:, None])[:, 0]
        return self.head(self.again(self.blocks[1](x).relu()))


def model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model()


def inputs() -> Tensor:
    return torch.randn(9, 12, generator=laws.generator(1))


def snapshot(module: nn.Module) -> tuple[list[int], dict[str, Tensor]]:
    return [id(part) for part in module.modules()], {name: t.clone() for name, t in module.state_dict().items()}


FULL = {
    "dense": Dense,
    "low-rank": lambda o, i: LowRank(o, i, min(o, i)),
    "kronecker": lambda o, i: Kronecker(o, i, min(o * i // 4, 4), left_shape=(2, 2)),
    "monarch": lambda o, i: Monarch(o, i, min(o // 2, i // 2), blocks=(2, 2)),
    "budget": Budget(LowRank, parameters=10**6),
}


@pytest.mark.parametrize("name", FULL)
def test_at_full_budget_nothing_changes_and_merging_changes_nothing(name):
    network, x = model(), inputs()
    before = network(x)
    conversion = compress(network, FULL[name])
    assert conversion.model is network
    assert not any(isinstance(part, nn.Linear) for part in network.modules())
    assert conversion.table["relative_error"].max() < 1e-10
    assert torch.allclose(network(x), before, rtol=0, atol=1e-5)
    merged = merge(network)
    assert merged is network
    assert not any(isinstance(part, StructuredLinear) for part in network.modules())
    assert torch.allclose(network(x), before, rtol=0, atol=1e-5)
    assert set(network.state_dict()) == set(model().state_dict())


@pytest.mark.parametrize(
    "structure",
    [lambda o, i: LowRank(o, i, 2), Kronecker, Monarch, lambda o, i: Nonlinear(MLP(4), LowRank(o, i, 2))],
    ids=["low-rank", "kronecker", "monarch", "nlmf"],
)
@pytest.mark.parametrize("start", ["nearest", "scratch"])
def test_merging_keeps_the_outputs_of_a_small_model(structure, start):
    network, x = model(), inputs()
    compress(network, structure, start=start)
    before = network(x)
    merge(network)
    assert torch.allclose(network(x), before, rtol=0, atol=1e-5)


def test_the_table_says_what_each_layer_costs():
    network = model()
    weight, bias = network.first.weight.detach().clone(), network.first.bias.detach().clone()
    table = compress(network, lambda o, i: LowRank(o, i, 2)).table.set_index("layer")
    assert list(table.index) == ["first", "blocks.0", "blocks.1", "head"]
    row = table.loc["first"]
    assert (row.structure, row.parameters_before, row.parameters) == ("LowRank(20×12, rank=2)", 260, 84)
    assert (row.flops_before, row.flops) == (480, 128)
    sigma = torch.linalg.svdvals(weight.double())
    assert row.relative_error == pytest.approx(float(sigma[2:].square().sum() / sigma.square().sum()), rel=1e-5)
    assert torch.equal(network.first.bias, bias)


def test_a_layer_with_two_names_stays_one():
    network = model()
    compress(network, Kronecker)
    assert network.again is network.blocks[1]
    assert isinstance(network.again, StructuredLinear)


def test_patterns_choose_the_layers():
    network = model()
    table = compress(network, Kronecker, include=["blocks.*", "head"], exclude="*.1").table
    assert list(table["layer"]) == ["blocks.0", "head"]
    assert type(network.first) is type(network.blocks[1]) is nn.Linear


def test_a_start_from_scratch_is_calibrated_and_reproducible():
    one, other, trained = model(), model(), model()
    for network in (one, other):
        table = compress(network, lambda o, i: LowRank(o, i, 3), start="scratch", generator=laws.generator(4)).table
        assert table["relative_error"].isna().all()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert float(one.first.weight.detach().std()) == pytest.approx(1 / math.sqrt(36), rel=0.2)
    assert not torch.equal(one.first.bias, trained.first.bias)


def test_a_budget_is_one_for_all_layers():
    table = compress(model(), Budget(LowRank, parameters=700)).table
    assert 600 < table["parameters"].sum() <= 700


def test_precision_mode_and_frozen_parameters_are_kept():
    network = model().double().eval()
    network.first.weight.requires_grad_(False)
    for convert in (lambda: compress(network, Kronecker), lambda: merge(network)):
        convert()
        assert {part.dtype for part in network.parameters()} == {torch.float64}
        assert not any(part.training for part in network.modules())
        assert not any(part.requires_grad for name, part in network.first.named_parameters() if name != "bias")
        assert network.first.bias.requires_grad
        assert network.head.bias.requires_grad


def test_a_single_layer_is_returned_converted():
    layer, x = nn.Linear(12, 6), inputs()
    small = compress(layer, lambda o, i: LowRank(o, i, 6)).model
    assert isinstance(small, StructuredLinear)
    assert torch.allclose(small(x), layer(x), atol=1e-5)
    assert torch.allclose(merge(small)(x), layer(x), atol=1e-5)


def test_attention_still_attends():
    network = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = torch.randn(3, 5, 8, generator=laws.generator(0))
    for mode in (network.train, network.eval):
        mode()
        before = network(x)
        compress(network, lambda o, i: LowRank(o, i, min(o, i)))
        assert torch.allclose(network(x), before, atol=1e-5)
        merge(network)


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_a_layer_that_computes_something_else_is_left_alone():
    network = nn.Sequential(nn.Linear(4, 4), Doubled(4, 4))
    compress(network, Kronecker)
    assert type(network[1]) is Doubled


def _tied() -> nn.Module:
    network = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6))
    network[1].weight = network[0].weight
    return network


def _broken() -> nn.Module:
    network = model()
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    return network


def _refusing() -> nn.Module:
    class Refusing(Model):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "head" and isinstance(value, StructuredLinear):
                raise ValueError("head must stay")
            super().__setattr__(name, value)

    return Refusing()


@pytest.mark.parametrize(
    ("make_model", "options", "message"),
    [
        (
            model,
            {"include": "nothing*"},
            r"include=\['nothing\*'\].* must match an nn.Linear, got none; .*first, blocks.0",
        ),
        (model, {"include": []}, r"include=\[\] .*got none"),
        (model, {"exclude": "*"}, r"exclude=\['\*'\].* got none"),
        (nn.ReLU, {}, "no nn.Linear at all"),
        (model, {"start": "best"}, "start must be nearest or scratch, got 'best'"),
        (model, {"structure": lambda o, i: LowRank(o, i, 9)}, r"layer 'head': rank must be in 1..6 .*, or exclude"),
        (model, {"structure": lambda o, i: LowRank(i, o, 2)}, "layer 'first': .* must return a 20×12 one, got LowRank"),
        (model, {"structure": lambda o, i: nn.Linear(i, o)}, "layer 'first': .* got Linear"),
        (model, {"structure": Budget(LowRank, parameters=100)}, "the budget must be at least 184 parameters"),
        (_tied, {}, "layer '1' must own its weight, got one shared with '0'; exclude it"),
        (_broken, {}, "layer 'head': W must be finite"),
        (_refusing, {}, "head must stay"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), {}, "no nn.Linear at all|lazy"),
    ],
)
def test_on_an_error_the_model_is_as_it_was(make_model, options, message):
    network = make_model()
    lazy = any(isinstance(part, nn.LazyLinear) for part in network.modules())
    before = None if lazy else snapshot(network)
    options = {"structure": Kronecker, **options}
    with pytest.raises(ValueError, match=message) as caught:
        compress(network, options.pop("structure"), **options)
    assert "\n" not in str(caught.value)
    if before is not None:
        after = snapshot(network)
        assert after[0] == before[0]
        pairs = zip(after[1].values(), before[1].values(), strict=True)
        assert all(torch.equal(new, old) or new.isnan().any() for new, old in pairs)


def test_one_structure_cannot_be_two_layers():
    shared = LowRank(4, 4, 2)
    with pytest.raises(ValueError, match="must make a new Structure for every layer"):
        compress(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), lambda o, i: shared)


def test_there_must_be_something_to_merge():
    with pytest.raises(ValueError, match="must have a StructuredLinear layer to merge, got none"):
        merge(model())
