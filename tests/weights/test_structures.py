"""Laws that every structure obeys: one matrix behind the product, the spectrum, the counters and the start."""

import copy
import math

import pytest
import torch
from torch import Tensor

import laws
from rankscope.metrics import effective_rank
from rankscope.weights import MLP, Dense, Fourier, Function, Kronecker, LowRank, Monarch, Nonlinear, Sine

LINEAR = ["dense", "low-rank", "low-rank, full", "kronecker", "kronecker sum", "monarch", "monarch of rank two"]
CALIBRATED = [*LINEAR, "nlmf", "nlmf, relu", "sine", "sine with gains", "sine with phases", "fourier", "function"]


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=laws.generator(seed), dtype=dtype)


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (64,), (0,)])
def test_forward_is_the_product_with_the_matrix(make, shape, batch):
    structure, x = make(shape), normal(*batch, shape[1])
    expected, bias = x @ structure.matrix().T, normal(shape[0])
    for route in (structure, structure.multiply):
        for b in (None, bias):
            y = route(x, b)
            assert y.shape == (*batch, shape[0])
            assert torch.allclose(y, expected if b is None else expected + b, rtol=0, atol=1e-12)


def test_forward_takes_a_cheaper_route_than_the_matrix_where_there_is_one():
    structure = LowRank(40, 60, 2)
    structure.matrix = lambda: pytest.fail("formed W")
    structure(torch.ones(3, 60))
    full = LowRank(4, 6, 4)  # 240 against 48 + 96 operations for a hundred vectors: forming W is cheaper.
    full.multiply = lambda x, bias: pytest.fail("multiplied by factors")
    full(torch.ones(100, 6))


@pytest.mark.parametrize(("terms", "formed"), [(1, False), (4, False), (8, True)])
def test_a_kronecker_sum_of_many_terms_forms_its_matrix_although_it_counts_fewer_operations(terms, formed):
    structure = Kronecker(256, 256, terms)
    assert structure.multiply_flops(256) < structure.matrix_flops() + 2 * 256**3
    other = "multiply" if formed else "multiply_formed"
    setattr(structure, other, lambda *_: pytest.fail(f"took the route of {other}"))
    structure(torch.ones(256, 256))


def test_both_orders_of_a_kronecker_product_agree():
    # The first is cheaper from the left, the second from the right.
    for left_shape in ((2, 12), (12, 2)):
        structure = Kronecker(24, 24, 2, left_shape=left_shape).double()
        x = normal(7, 24)
        assert torch.allclose(structure.multiply(x), x @ structure.matrix().T, atol=1e-12)
    A, B = structure.A[0], structure.B[0]
    single = Kronecker(24, 24, left_shape=(12, 2)).double()
    single.load_state_dict({"A": A[None], "B": B[None]})
    assert torch.allclose(single.matrix(), torch.kron(A, B), atol=1e-14)


@pytest.mark.parametrize("overhead", [10**9, -(10**9)], ids=["through the parts", "W formed"])
def test_gradients_are_those_of_finite_differences(make, overhead):
    structure = make((6, 4))
    structure.overhead = overhead
    names = [name for name, _ in structure.named_parameters()]

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(structure, dict(zip(names, parameters, strict=True)), (x,))

    x = normal(2, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(forward, (x, *structure.parameters()), atol=1e-6)


def test_singular_values_are_those_of_the_matrix(make, shape):
    structure = make(shape)
    expected = torch.linalg.svdvals(structure.matrix())
    assert structure.singular_values().dtype == torch.float64
    assert torch.allclose(structure.singular_values(), expected, rtol=0, atol=1e-12)


def test_max_rank_is_reached_at_the_start_by_linear_structures_and_never_exceeded(make, shape):
    structure = make(shape)
    rank = int(torch.linalg.matrix_rank(structure.matrix()))
    assert rank <= structure.max_rank
    if not isinstance(structure, Nonlinear):
        assert rank == structure.max_rank


def test_effective_rank_of_one_kronecker_term_is_the_product(shape):
    structure = Kronecker(*shape).double()
    product = effective_rank(structure.A[0].detach()) * effective_rank(structure.B[0].detach())
    assert float(effective_rank.of_spectrum(structure.singular_values())) == pytest.approx(float(product), rel=1e-10)


@pytest.mark.parametrize("make", CALIBRATED, indirect=True)
@pytest.mark.parametrize("seed", range(4))
def test_a_start_has_the_spread_of_nn_linear(make, shape, seed):
    W = make(shape, seed).matrix().detach()
    ratio = float(W.std()) * math.sqrt(3 * shape[1])
    assert 0.8 < ratio < 1.2
    assert abs(float(W.mean())) < 0.8 * float(W.std())


def test_a_start_has_the_spread_of_nn_linear_in_a_layer_of_usual_size():
    for structure in (
        LowRank(100, 40, 4),
        Kronecker(100, 40, 2),
        Monarch(100, 40),
        Nonlinear(MLP(), LowRank(100, 40, 4)),
    ):
        ratio = float(structure.matrix().detach().std()) * math.sqrt(3 * 40)
        assert ratio == pytest.approx(1, abs=0.01)


def test_the_factors_of_a_start_are_balanced():
    low, kronecker, monarch = LowRank(100, 60, 5), Kronecker(100, 60, 4), Monarch(100, 60, 2)
    tau = 1 / math.sqrt(3 * 60)
    for left, right, terms in ((low.U, low.V, 5), (kronecker.A, kronecker.B, 4), (monarch.C, monarch.D, 2)):
        for part in (left, right):
            assert float(part.detach().std()) == pytest.approx((tau**2 / terms) ** 0.25, rel=0.2)


def test_a_dense_start_is_nn_linears():
    W = Dense(200, 50).matrix().detach()
    assert float(W.abs().max()) <= 50**-0.5
    assert float(W.abs().max()) > 0.99 * 50**-0.5


def test_sine_gain_is_the_closed_form_to_sampling():
    tau = 1 / math.sqrt(3 * 60)
    plain = Nonlinear(Sine(200, 60), LowRank(200, 60, 20))
    assert float(plain.phi.g) == pytest.approx(tau * math.sqrt(2 / (1 - math.exp(-8))), rel=0.05)
    shifted = Nonlinear(Sine(200, 60, phases=True), LowRank(200, 60, 20))
    assert float(shifted.phi.g) == pytest.approx(tau * math.sqrt(2), rel=0.1)


def test_the_same_seed_starts_the_same_matrix_in_every_precision(make):
    single, double = (make((10, 12), seed=5, dtype=dtype).matrix() for dtype in (torch.float32, torch.float64))
    assert torch.allclose(single.double(), double, atol=1e-6)
    assert not torch.allclose(make((10, 12), seed=6).matrix(), double, atol=1e-3)


@pytest.mark.parametrize(
    ("structure", "count"),
    [
        (Dense(7, 5), 35),
        (LowRank(7, 5, 2), 24),
        (Kronecker(12, 10, 3, left_shape=(4, 5)), 3 * (20 + 6)),
        (Monarch(12, 10, 2, blocks=(3, 5)), 2 * (3 * 10 + 5 * 12)),
        (Nonlinear(MLP(16), LowRank(7, 5, 2)), 24 + 49),
        (Nonlinear(Sine(7, 5), LowRank(7, 5, 2)), 24 + 1),
        (Nonlinear(Sine(7, 5, gains="rows and columns"), LowRank(7, 5, 2)), 24 + 12),
        (Nonlinear(Sine(7, 5, gains="rows and columns", phases=True), LowRank(7, 5, 2)), 24 + 24),
        (Nonlinear(Fourier(4), LowRank(7, 5, 2)), 24 + 8),
        (Nonlinear(torch.tanh, LowRank(7, 5, 2)), 24),
    ],
    ids=lambda value: value.label if isinstance(value, torch.nn.Module) else None,
)
def test_parameters_are_counted(structure, count):
    assert structure.num_parameters == count == sum(part.numel() for part in structure.parameters())


def test_flops_are_those_of_the_cheaper_route():
    assert Dense(7, 5).flops(3) == 2 * 3 * 35
    assert LowRank(40, 60, 2).flops(3) == 2 * 3 * 2 * 100
    assert LowRank(4, 6, 4).flops(100) == 2 * 4 * 24 + 2 * 100 * 24
    assert Monarch(12, 10, blocks=(3, 5)).flops() == 2 * (3 * 10 + 5 * 12)
    # (4×5)⊗(3×2) from the left: A X costs 4·5·2 multiply-adds, then Bᵀ 4·2·3.
    assert Kronecker(12, 10, left_shape=(4, 5)).flops() == 2 * min(4 * 5 * 2 + 4 * 2 * 3, 5 * 2 * 3 + 4 * 5 * 3)
    assert Nonlinear(torch.tanh, LowRank(7, 5, 2)).flops(3) == 2 * 70 + 3 * 35 + 2 * 3 * 35


@pytest.mark.parametrize("blocks", [(3, 5), (4, 2), (1, 10), (12, 1)])
def test_every_output_of_monarch_depends_on_every_input(blocks):
    W = Monarch(12, 10, blocks=blocks).matrix()
    assert torch.all(W != 0)


@pytest.mark.parametrize("make", ["kronecker", "low-rank", "nlmf"], indirect=True)
def test_every_output_depends_on_every_input(make, shape):
    assert torch.all(make(shape).matrix() != 0)


def test_state_is_the_structure(make, shape):
    one, other = make(shape, seed=1), make(shape, seed=2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.matrix(), other.matrix())
    assert torch.equal(copy.deepcopy(one).matrix(), one.matrix())


def test_the_label_is_one_line(make):
    assert "10×12" in make((10, 12)).label
    assert "\n" not in make((10, 12)).label


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Dense(0, 5), "out_features must be >= 1, got 0; raise it"),
        (lambda: Dense(3, 2.5), "in_features must be >= 1, got 2.5; pass an integer"),
        (lambda: LowRank(9, 4, 5), r"rank must be in 1..4 \(W is 9×4\), got 5; lower it"),
        (lambda: LowRank(9, 4, 0), r"rank must be in 1..4 .*got 0; raise it"),
        (lambda: Kronecker(9, 4, left_shape=(2, 2)), "left_shape must divide 9×4, got 2×2; .* 1, 3, 9"),
        (
            lambda: Kronecker(9, 4, 7, left_shape=(3, 2)),
            r"terms must be in 1..6 \(the factors are 3×2 and 3×2\), got 7",
        ),
        (lambda: Kronecker(7, 5), "needs a size of W that factors, got 7×5; .*LowRank"),
        (lambda: Monarch(9, 4, blocks=(2, 2)), "blocks must divide the shape of W, got 2 for out = 9; .* 1, 3, 9"),
        (lambda: Monarch(9, 4, 3, blocks=(3, 2)), r"rank must be in 1..2 \(a block of W is 3×2\), got 3; lower it"),
        (lambda: Monarch(7, 5), "needs a size of W that factors, got 7×5"),
        (lambda: MLP(1), "width must be >= 2, got 1; raise it"),
        (lambda: MLP(activation="tanh"), "activation must be one of silu, relu, got 'tanh'"),
        (lambda: MLP(start="best"), "start must be calibrated, sine or original, got 'best'"),
        (lambda: Sine(3, 4, omega=0), "omega must be a positive number, got 0"),
        (lambda: Sine(3, 4, gains="all"), "gains must be 'scalar' or 'rows and columns', got 'all'"),
        (lambda: Fourier(0), "terms must be >= 1, got 0; raise it"),
        (lambda: Function(3), "f must be callable, got int"),
        (lambda: Nonlinear(torch.sum, LowRank(9, 4, 2)), r"f must keep the shape \(9, 4\), got \(\)"),
        (lambda: LowRank(9, 4, 2)(torch.ones(3, 5)), "the last dimension of x must be in_features = 4, got 5"),
        (lambda: LowRank.nearest(torch.ones(5), 1), r"W must have 2 dimensions \(out × in\), got shape \(5,\)"),
        (lambda: LowRank(9, 4, 2).set_nearest(torch.ones(4, 9)), "W must be 9×4 like the structure, got shape"),
        (lambda: Dense.nearest(torch.full((2, 2), float("nan"))), "W must be finite, got NaN or inf"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
