"""StructuredLinear stands wherever nn.Linear does."""

import copy
import shutil

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

import laws
from rankscope.weights import MLP, Dense, Kronecker, LowRank, Monarch, Nonlinear, StructuredLinear

BRIEF = {
    "dense": (5110, [Dense(100, 40), Dense(10, 100)]),
    "low-rank": (2110, [LowRank(100, 40, 8), LowRank(10, 100, 8)]),
    "nlmf": (1208, [Nonlinear(MLP(), LowRank(100, 40, 4)), Nonlinear(MLP(), LowRank(10, 100, 4))]),
    "kronecker": (320, [Kronecker(100, 40, left_shape=(10, 10)), Kronecker(10, 100, left_shape=(2, 10))]),
}
SMALL = ["low-rank", "kronecker sum", "monarch", "nlmf", "sine with phases", "fourier"]


def network() -> nn.Sequential:
    """One layer of each kind, the same each time: in one of 200 starts all of the last layer's outputs are 0."""
    torch.manual_seed(0)
    layers = [Kronecker(12, 10, 2), Monarch(20, 12), Nonlinear(MLP(4), LowRank(15, 20, 2)), LowRank(6, 15, 3)]
    return nn.Sequential(*(part for layer in layers for part in (StructuredLinear(layer), nn.ReLU())))


@pytest.mark.parametrize("name", BRIEF)
def test_the_four_models_of_the_experiment_have_its_parameter_counts(name):
    count, structures = BRIEF[name]
    layers = nn.ModuleList(StructuredLinear(structure) for structure in structures)
    assert sum(parameter.numel() for parameter in layers.parameters()) == count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("batch", [(), (3,), (2, 5), (0,)])
def test_it_is_a_linear_layer_in_every_precision_and_batch_shape(make, batch, dtype):
    layer = StructuredLinear(make((10, 12), dtype=torch.float32)).to(dtype)
    x = torch.randn(*batch, 12, generator=laws.generator(0)).to(dtype)
    y = layer(x)
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    assert (y.shape, y.dtype) == (expected.shape, dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.06}[dtype]
    assert torch.allclose(y, expected, rtol=tolerance, atol=tolerance)


def test_the_bias_is_optional_and_starts_like_nn_linears():
    assert StructuredLinear(LowRank(5, 4, 2), bias=False).bias is None
    b = StructuredLinear(LowRank(4000, 4, 2)).bias
    assert b is not None
    assert 0.45 < float(b.detach().abs().max()) <= 0.5


def test_bias_is_added():
    layer = StructuredLinear(LowRank(5, 4, 2))
    assert torch.allclose(layer(torch.zeros(3, 4)), layer.bias.expand(3, 5))


def test_a_start_is_reproducible():
    one, other = (StructuredLinear(LowRank(5, 4, 2)) for _ in range(2))
    for layer in (one, other):
        layer.reset_parameters(laws.generator(3))
    x = torch.ones(4)
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("make", SMALL, indirect=True)
def test_its_state_and_its_copies_are_it(make):
    layer, other = (StructuredLinear(make((10, 12), seed=seed)) for seed in (1, 2))
    x = torch.randn(3, 12, generator=laws.generator(0), dtype=torch.float64)
    copied = copy.deepcopy(layer)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    with torch.no_grad():
        next(layer.parameters()).zero_()
    assert torch.equal(copied(x), other(x))
    assert not torch.equal(copied(x), layer(x))


@pytest.mark.parametrize("make", SMALL, indirect=True)
def test_functional_call_and_vmap_run_a_stack_of_layers(make):
    layers = [StructuredLinear(make((10, 12), seed=seed)) for seed in range(3)]
    parameters, buffers = stack_module_state(layers)
    x = torch.randn(3, 4, 12, generator=laws.generator(0), dtype=torch.float64)

    def call(parameters, buffers, x):
        return functional_call(layers[0], (parameters, buffers), (x,))

    stacked = vmap(call)(parameters, buffers, x)
    for layer, single, batch in zip(layers, stacked, x, strict=True):
        assert torch.allclose(single, layer(batch), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", SMALL, indirect=True)
def test_under_autocast_it_gives_what_nn_linear_gives(make):
    layer = StructuredLinear(make((10, 12), dtype=torch.float32))
    x = torch.randn(64, 12, generator=laws.generator(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = layer(x), nn.Linear(12, 10)(x)
        y.float().square().sum().backward()
    assert y.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), atol=0.05)
    assert all(part.grad is not None and torch.isfinite(part.grad).all() for part in layer.parameters())


def test_tracing_finds_one_graph_forward_and_backward():
    torch._dynamo.reset()
    model, x = network(), torch.randn(8, 10, generator=laws.generator(0))
    traced = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for run in (model, traced):
        run(x).square().sum().backward()
    assert torch.allclose(traced(x), model(x), atol=1e-6)
    for ours, theirs in zip(model.parameters(), traced.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler")
def test_a_compiled_layer_computes_the_same():
    torch._dynamo.reset()
    model = StructuredLinear(Nonlinear(MLP(4), LowRank(6, 10, 2)))  # One layer: compiling a kernel takes seconds.
    x = torch.randn(8, 10, generator=laws.generator(0))
    with torch.no_grad():
        assert torch.allclose(torch.compile(model)(x), model(x), atol=1e-5)


def test_it_learns():
    model, W = network(), torch.randn(6, 10, generator=laws.generator(1))
    x = torch.randn(64, 10, generator=laws.generator(0))
    y = (x @ W.T).relu()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = nn.functional.mse_loss(model(x), y).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
