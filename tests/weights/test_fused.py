"""Compiled passes stand for their operations: the same product, the same gradients, and whatever else is asked for."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

import laws
from rankscope import team
from rankscope.weights import (
    Kronecker,
    LowRank,
    Monarch,
    StructuredLinear,
    fused,
    kronecker_left_pass,
    kronecker_pass,
    kronecker_rows_pass,
    monarch,
)

MAKE = {
    "low rank": lambda: LowRank(64, 128, 16),
    "low rank, odd": lambda: LowRank(21, 55, 13),
    "low rank, columns far apart": lambda: LowRank(1024, 576, 48),
    "low rank, columns far apart, odd": lambda: LowRank(1030, 577, 37),
    "low rank, more than a panel is deep": lambda: LowRank(300, 310, 270),
    "kronecker": lambda: Kronecker(64, 64),
    "kronecker, four terms": lambda: Kronecker(64, 64, 4),
    "kronecker, odd": lambda: Kronecker(21, 55, 3, left_shape=(7, 11)),
    "kronecker, many blocks": lambda: Kronecker(640, 384, 2, left_shape=(20, 16)),
    "kronecker, by rows": lambda: Kronecker(640, 512, 2, left_shape=(20, 16)),
    "kronecker, other sizes": lambda: Kronecker(96, 32, 3, left_shape=(6, 4)),
    "kronecker, too large": lambda: Kronecker(160, 256, left_shape=(2, 2)),
    "kronecker, from the left": lambda: Kronecker(24, 24, 2, left_shape=(2, 12)),
    "kronecker, from the left, many blocks": lambda: Kronecker(384, 640, 3, left_shape=(16, 20)),
    "kronecker, from the left, whole": lambda: Kronecker(128, 64, 4, left_shape=(8, 8)),
    "kronecker, from the left, too large": lambda: Kronecker(160, 256, left_shape=(2, 4)),
    "monarch": lambda: Monarch(64, 64),
    "monarch, rank three": lambda: Monarch(30, 42, 3, blocks=(6, 7)),
    "monarch, many blocks": lambda: Monarch(1024, 2048),
    "monarch, large blocks": lambda: Monarch(2048, 4096, blocks=(128, 64)),
    "monarch, large blocks, few groups": lambda: Monarch(2048, 2048, 8, blocks=(32, 8)),
    "monarch, large blocks, odd groups": lambda: Monarch(1536, 1184, 2, blocks=(32, 32)),
    "monarch, large blocks, one register": lambda: Monarch(2048, 2048, 2, blocks=(32, 16)),
    "monarch, large blocks, rank four": lambda: Monarch(1024, 1024, 4, blocks=(64, 64)),
}
BOTH = {torch.float64: 1e-12, torch.float32: 2e-5}


@pytest.fixture(autouse=True)
def _nothing_in_a_room(poisoned_rooms):
    """What a pass reads of its room it has written before."""


@pytest.fixture(params=MAKE)
def structure(request):
    torch.manual_seed(0)
    return MAKE[request.param]()


def normal(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=laws.generator(seed), dtype=dtype)


def largest(ours, expected):
    """NaN if there is one, which Python's own ``max`` may pass over."""
    return float(torch.stack([(a - b).abs().max() / b.abs().max() for a, b in zip(ours, expected, strict=True)]).max())


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", [1, 37, 130])
@pytest.mark.parametrize("formed", [False, True])
def test_product_and_gradients_are_those_of_the_matrix(structure, formed, batch, threads, dtype, monkeypatch):
    if formed and not getattr(structure, "_forms", False):
        pytest.skip("W is formed by operations")
    monkeypatch.setattr(team, "size", lambda: threads)
    structure = structure.to(dtype)
    x, bias = normal(batch, structure.in_features, dtype=dtype), normal(structure.out_features, seed=2, dtype=dtype)
    dy = normal(batch, structure.out_features, seed=3, dtype=dtype)
    asked = [x.requires_grad_(), bias.requires_grad_(), *structure.parameters()]
    y = nn.functional.linear(x, structure.matrix(), bias)
    expected = y.detach(), *torch.autograd.grad(y, asked, dy)
    y = structure.multiply_formed(x, bias) if formed else structure.multiply(x, bias)
    assert largest((y.detach(), *torch.autograd.grad(y, asked, dy)), expected) < BOTH[dtype]


def test_derivatives_of_derivatives(structure):
    if structure.in_features > 100:
        pytest.skip("finite differences of many entries")
    structure = structure.double()
    x, bias = normal(3, structure.in_features).requires_grad_(), normal(structure.out_features).requires_grad_()
    parts = dict(structure.named_parameters())

    def run(x, bias, *values):
        structure.forward = structure.multiply
        return functional_call(structure, dict(zip(parts, values, strict=True)), (x, bias))

    given = (x, bias, *(part.detach().requires_grad_() for part in parts.values()))
    assert torch.autograd.gradcheck(run, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


@pytest.mark.parametrize("which", ["x", "bias", "parts"])
def test_only_what_needs_a_gradient_gets_one(structure, which):
    layer = StructuredLinear(structure)
    x = normal(5, layer.in_features, dtype=torch.float32).requires_grad_(which == "x")
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_((which == "bias") == (name == "bias") and which != "x")
    layer(x).square().sum().backward()
    asked = [name for name, parameter in layer.named_parameters() if parameter.grad is not None]
    assert (x.grad is not None) == (which == "x")
    assert asked == [name for name, parameter in layer.named_parameters() if parameter.requires_grad]


def test_inputs_and_gradients_may_lie_in_any_order(structure):
    structure = structure.double()
    x = normal(structure.in_features, 6).mT.requires_grad_()
    y = structure.multiply(x)
    assert torch.allclose(y, x @ structure.matrix().mT, atol=1e-12)
    (g,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(g, structure.matrix().sum(0).expand_as(g), atol=1e-12)
    assert structure.multiply(normal(2, 3, structure.in_features)).shape == (2, 3, structure.out_features)


def test_functions_are_transformed_like_operations(structure):
    structure = structure.double()
    X, W = normal(4, 3, structure.in_features), structure.matrix()
    assert torch.allclose(vmap(structure.multiply)(X), X @ W.mT, atol=1e-12)
    gradient = grad(lambda x: structure.multiply(x).sum())(X[0])
    assert torch.allclose(gradient, W.sum(0).expand_as(gradient), atol=1e-12)
    y, tangent = jvp(structure.multiply, (X[0],), (X[1],))
    assert torch.allclose(torch.cat([y, tangent]), torch.cat([X[0], X[1]]) @ W.mT, atol=1e-12)


def test_many_gradients_at_once_are_those_one_by_one(structure):
    structure = structure.double()
    x, Gs = normal(5, structure.in_features).requires_grad_(), normal(3, 5, structure.out_features)
    inputs = [x, *structure.parameters()]
    at_once = torch.autograd.grad(structure.multiply(x), inputs, Gs, is_grads_batched=True)
    for k, G in enumerate(Gs):
        one = torch.autograd.grad(structure.multiply(x), inputs, G)
        assert largest([gradients[k] for gradients in at_once], one) <= 1e-12


def test_copies_take_the_same_passes(structure):
    x = normal(64, structure.in_features, dtype=torch.float32)
    for other in (copy.deepcopy(structure), pickle.loads(pickle.dumps(structure))):
        assert torch.equal(other(x), structure(x))
        assert other.__dict__.keys() == structure.__dict__.keys()


def test_others_that_look_on_see_operations(structure):
    x = normal(8, structure.in_features, dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        structure.multiply(x)
    assert counter.get_total_flops() > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert structure.multiply(x).dtype == torch.bfloat16


def test_the_passes_are_taken_where_they_are_meant_for(structure, monkeypatch, request):
    taken = []
    step = fused._step
    monkeypatch.setattr(fused, "_step", lambda *given: taken.append(given) or step(*given))
    x = normal(32 * team.size(), structure.in_features, dtype=torch.float32)
    structure.multiply(x)
    assert bool(taken) == (not request.node.callspec.id.endswith("too large"))
    taken.clear()
    structure.multiply_formed(x)
    assert bool(taken) == getattr(structure, "_forms", False)
    assert not fused._takes(x.to("meta"), *structure.parameters(), None)
    assert not fused._takes(x.half(), *structure.parameters(), None)
    assert not fused._takes(x.double(), *structure.parameters(), None)


@pytest.mark.parametrize(
    ("out", "left_shape", "terms", "passes"),
    [
        (64, (8, 8), 4, kronecker_pass),
        (128, (8, 16), 4, kronecker_left_pass),
        (128, (16, 8), 4, kronecker_pass),
        (1024, (32, 32), 1, kronecker_rows_pass),
        (2048, (32, 64), 4, kronecker_left_pass),
        (2048, (64, 32), 4, kronecker_rows_pass),
        (8192, (64, 128), 1, None),
    ],
)
def test_kronecker_begins_with_the_part_that_is_less_work(out, left_shape, terms, passes, monkeypatch):
    routes = []
    monkeypatch.setattr(fused, "apply", lambda route, x, *given: routes.append(route) or x)
    structure = Kronecker(out, out, terms, left_shape=left_shape)
    structure.multiply(torch.zeros(2, out))
    assert [route.passes.forward for route in routes] == ([] if passes is None else [passes.forward])


@pytest.mark.parametrize(
    ("sizes", "batch", "tiles"),
    [
        ((64, 64, 64, 1, 64), 256, True),
        ((64, 64, 64, 1, 64), 8192, False),  # The vectors outweigh the parameters.
        ((32, 32, 32, 1, 32), 256, False),  # Small.
        ((96, 64, 64, 1, 68), 256, False),  # Rows of D are not of whole vectors.
        ((68, 64, 64, 1, 64), 256, False),  # m₁ is not.
        ((64, 64, 36, 1, 64), 256, False),  # n₀R is not.
        ((32, 64, 32, 1, 64), 1024, True),  # As few and as many as that pays for.
        ((32, 64, 32, 1, 48), 1024, False),
        ((32, 64, 32, 1, 64), 1025, False),
    ],
)
def test_large_parameters_are_turned_and_not_the_vectors(sizes, batch, tiles):
    assert monarch._by_tiles(sizes, batch) == tiles


def test_parts_of_other_sizes_are_refused_and_not_read_beyond_their_ends(structure):
    layer = StructuredLinear(structure)
    x = normal(8, layer.in_features, dtype=torch.float32)
    for name, part in structure.named_parameters():
        shorter = part.detach()[:, :1] if part.shape[1] > 1 else part.detach()[:, :, :1]
        setattr(structure, name, nn.Parameter(shorter.contiguous()))
        with pytest.raises(RuntimeError):
            layer(x)
        setattr(structure, name, part)
    assert not fused._takes(x, *(part.to("meta") for part in structure.parameters()), None)
