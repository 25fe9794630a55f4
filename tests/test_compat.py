"""The brief's own functions, with its signatures, starts and ends."""

import inspect
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from rankscope import compat, metrics

MODELS = {
    "Deep_NMF_2W": (compat.Deep_NMF_2W, {"r1": 5, "r2": 3}),
    "NMF_for_r_comparison": (compat.NMF_for_r_comparison, {"r": 4}),
    "NMF_for_r_comparison_MU": (compat.NMF_for_r_comparison_MU, {"r": 4}),
}
SIGNATURES = {
    "load_mnist": "resize=(28, 28)",
    "load_flowers102": "resize=(64, 64)",
    "exp_effective_rank_torch": "A",
    "nuclear_over_operator_norm_torch": "A",
    "cosine_separation_loss": "H",
    "Deep_NMF_2W": "A, r1, r2, init='random', end='matrix', epochs=6000, seed=None",
    "NMF_for_r_comparison": "A, r, init='random', end='matrix', epochs=6000, seed=None",
    "NMF_for_r_comparison_MU": "A, r, init='random', end='matrix', epochs=6000, seed=None",
    "plot_nmf_results": "W, H, errorsGD, rankGD, nuclearrankGD, SVGD1, SVGD2, image_shape=(64, 64), X=None, "
    "epochs_metrics=None, limit=30000",
    "plot_H_signatures": "H, title, image_shape=(28, 28), n_show=5",
    "plot_mnist_reconstruction": "A, W1, W2, H, index=0, image_shape=(28, 28)",
    "plot_mnist_reconstruction_nmf": "A, W, H, index=0, image_shape=(28, 28)",
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def A(digits):
    return digits[100:150]


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_twelve_names_and_their_signatures(name):
    parameters = inspect.signature(getattr(compat, name)).parameters.values()
    positional = [
        p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD
    ]
    assert ", ".join(map(str, positional)) == SIGNATURES[name]


@pytest.mark.parametrize(
    ("name", "init", "end"), product(MODELS, ["random", "eye", "ssvd"], ["matrix", "lists", "all"])
)
def test_every_start_and_every_end(A, name, init, end):
    model, ranks = MODELS[name]
    result = model(A, **ranks, init=init, end=end, epochs=30, seed=0)
    depth = len(ranks) + 1
    assert len(result) == {"matrix": depth, "lists": 5, "all": depth + 5}[end]
    factors = result[:depth] if end != "lists" else ()
    logs = result[-5:] if end != "matrix" else ()
    for F in factors:
        assert (F >= 0).all()
    for log in logs:
        assert isinstance(log, list)
        assert len(log) == 30
    if end == "all":
        B = np.linalg.multi_dot([*factors, np.eye(64)])
        errors, ranks_, nuclear, sigma_1, sigma_2 = logs
        sigma = np.linalg.svd(B, compute_uv=False)
        assert errors[-1] == pytest.approx(np.linalg.norm(A - B) ** 2 / np.linalg.norm(A) ** 2, rel=1e-6)
        assert ranks_[-1] == pytest.approx(metrics.effective_rank(B), rel=1e-6)
        assert nuclear[-1] == pytest.approx(sigma.sum() / sigma[0], rel=1e-6)
        assert (sigma_1[-1], sigma_2[-1]) == pytest.approx(tuple(sigma[:2]), rel=1e-6)
        assert errors[-1] < errors[0]


def test_the_same_seed_gives_the_same_lists_with_or_without_the_factors(A):
    whole = compat.Deep_NMF_2W(A, 5, 3, end="all", epochs=20, seed=3)
    assert compat.Deep_NMF_2W(A, 5, 3, end="lists", epochs=20, seed=3) == whole[3:]
    for F, G in zip(compat.Deep_NMF_2W(A, 5, 3, epochs=20, seed=3), whole[:3], strict=True):
        np.testing.assert_array_equal(F, G)


def test_arrays_tensors_and_frames_go_in(A):
    expected = compat.NMF_for_r_comparison(A, 4, epochs=10, seed=0)
    frame = compat.NMF_for_r_comparison(pd.DataFrame(A), 4, epochs=10, seed=0)
    tensor = compat.NMF_for_r_comparison(torch.from_numpy(A), 4, epochs=10, seed=0)
    for F, G, T in zip(expected, frame, tensor, strict=True):
        np.testing.assert_array_equal(F, G)
        assert isinstance(T, torch.Tensor)
        np.testing.assert_array_equal(F, T.numpy())


def test_the_random_start_is_uniform_on_the_unit_interval_and_adam_takes_steps_of_one_hundredth(A):
    W, H = compat.NMF_for_r_comparison(A, 4, epochs=0, seed=0)
    assert 0.4 < W.mean() < 0.6
    assert W.max() < 1
    moved, _ = compat.NMF_for_r_comparison(A, 4, epochs=1, seed=0)
    assert np.abs(moved - W)[W > 0.02].max() == pytest.approx(1e-2, rel=1e-3)
    assert H.shape == (4, 64)


def test_metrics():
    A = torch.diag(torch.tensor([10.0, 5.0, 1.0]))
    assert compat.exp_effective_rank_torch(A) == pytest.approx(2.2945, abs=1e-4)
    assert compat.nuclear_over_operator_norm_torch(A) == pytest.approx(1.6)
    H = torch.rand(3, 5, requires_grad=True)
    compat.cosine_separation_loss(H).backward()
    assert H.grad is not None
    assert float(compat.cosine_separation_loss(torch.ones(3, 4))) == pytest.approx(6)


def test_plots(A):
    W1, W2, H, *logs = compat.Deep_NMF_2W(A, 5, 3, end="all", epochs=60, seed=0)
    figures = [
        compat.plot_nmf_results(W1 @ W2, H, *logs, image_shape=(8, 8), X=A),
        compat.plot_nmf_results(W1 @ W2, H, *logs, image_shape=(8, 8), epochs_metrics=range(0, 600, 10), limit=300),
        compat.plot_H_signatures(H, "signatures", image_shape=(8, 8)),
        compat.plot_mnist_reconstruction(A, W1, W2, H, index=3, image_shape=(8, 8)),
        compat.plot_mnist_reconstruction_nmf(A, W1 @ W2, H, index=3, image_shape=(8, 8)),
    ]
    for figure in figures:
        assert isinstance(figure, plt.Figure)
        figure.canvas.draw()
    original, rebuilt, error = (ax.get_images()[0].get_array() for ax in figures[3].axes[:3])
    np.testing.assert_allclose(original, A[3].reshape(8, 8))
    np.testing.assert_allclose(rebuilt, (W1 @ W2 @ H)[3].reshape(8, 8), atol=1e-6)
    np.testing.assert_allclose(error, np.abs(original - rebuilt), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "svd"}, "init must be one of random, eye, ssvd, got 'svd'"),
        ({"end": "everything"}, "end must be one of matrix, lists, all, got 'everything'"),
        ({"r": 0}, "r must be a whole number from 1, got 0"),
        ({"epochs": -1}, "epochs must be a whole number from 0, got -1"),
        ({"A": -np.ones((3, 3))}, "Negative values"),
        ({"A": np.ones(3)}, "2 dimensions"),
    ],
)
def test_refusals(A, arguments, message):
    with pytest.raises(ValueError, match=message):
        compat.NMF_for_r_comparison(**{"A": A, "r": 3, "epochs": 2, **arguments})
    with pytest.raises(ValueError, match=r"index must be in 0\.\.49, got 50"):
        compat.plot_mnist_reconstruction_nmf(A, np.ones((50, 1)), np.ones((1, 64)), index=50)


def test_the_briefs_example_on_real_images(mnist):
    X = mnist
    W1, W2, H, errorsGD, rankGD, nuclearrankGD, SVGD1, SVGD2 = compat.Deep_NMF_2W(
        X[100:350, :], r1=20, r2=10, init="random", end="all", epochs=300
    )
    assert (W1.shape, W2.shape, H.shape) == ((250, 20), (20, 10), (10, 784))
    assert all(len(log) == 300 for log in (errorsGD, rankGD, nuclearrankGD, SVGD1, SVGD2))
    assert errorsGD[-1] < 0.01 * errorsGD[0]  # Uniform factors start far off; the full 10,000 epochs are a benchmark.
