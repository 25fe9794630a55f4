"""The function names of the original student project, thin over the rest of the package.

The model functions take an array, a tensor or a DataFrame A (m×n) ≥ 0 and return what ``end`` asks for:

- ``"matrix"``: the factors (W1, W2, H or W, H);
- ``"lists"``: the logs, one entry an epoch: errorsGD (‖A−WH‖²/‖A‖²), rankGD (effective rank), nuclearrankGD (nuclear
  over operator norm), SVGD1 and SVGD2 (the two largest singular values);
- ``"all"``: the factors, then the logs.

``init`` is ``"random"`` (uniform on [0, 1)), ``"eye"`` or ``"ssvd"`` (nonnegative double SVD). The plot functions
return a matplotlib Figure and leave showing it to the caller.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rankscope import metrics, plots
from rankscope.datasets import load_flowers102, load_mnist
from rankscope.nmf import DeepNMF
from rankscope.nmf.settings import check_size

__all__ = [
    "Deep_NMF_2W",
    "NMF_for_r_comparison",
    "NMF_for_r_comparison_MU",
    "cosine_separation_loss",
    "exp_effective_rank_torch",
    "load_flowers102",
    "load_mnist",
    "nuclear_over_operator_norm_torch",
    "plot_H_signatures",
    "plot_mnist_reconstruction",
    "plot_mnist_reconstruction_nmf",
    "plot_nmf_results",
]

LEARNING_RATE = 1e-2
# Factors uniform on [0, 1) start thousands of ‖A‖² away. Adam's usual 0.999 remembers those gradients for 10,000 epochs
# and stands still at twice the error meanwhile; 0.99 forgets them in 2,000.
BETAS = (0.9, 0.99)
STARTS = {"random": "custom", "eye": "eye", "ssvd": "nndsvda"}
ENDS = ("matrix", "lists", "all")
LOGS = ("relative_error", "effective_rank", "nuclear_over_operator", "sigma_1", "sigma_2")


def exp_effective_rank_torch(A: Tensor) -> float:
    """exp(−Σ p ln p) with p = σ/Σσ: the effective rank of A."""
    return float(metrics.effective_rank(A))


def nuclear_over_operator_norm_torch(A: Tensor) -> float:
    """Σσ/σ₁ of A."""
    return float(metrics.nuclear_over_operator(A))


def cosine_separation_loss(H: Tensor) -> Tensor:
    """‖ĤĤᵀ − I‖²_F with Ĥ the unit rows of H, a penalty that makes rows orthogonal: a 0-d tensor with its gradient."""
    return torch.as_tensor(metrics.cosine_separation_loss(H))


def Deep_NMF_2W(
    A: Any, r1: int, r2: int, init: str = "random", end: str = "matrix", epochs: int = 6000, seed: int | None = None
) -> tuple[Any, ...]:
    """A ≈ W1 (m×r1) W2 (r1×r2) H (r2×n), by projected Adam on all factors at once."""
    return _factor(A, {"r1": r1, "r2": r2}, "adam", init=init, end=end, epochs=epochs, seed=seed)


def NMF_for_r_comparison(
    A: Any, r: int, init: str = "random", end: str = "matrix", epochs: int = 6000, seed: int | None = None
) -> tuple[Any, ...]:
    """A ≈ W (m×r) H (r×n), by projected Adam on both factors at once."""
    return _factor(A, {"r": r}, "adam", init=init, end=end, epochs=epochs, seed=seed)


def NMF_for_r_comparison_MU(
    A: Any, r: int, init: str = "random", end: str = "matrix", epochs: int = 6000, seed: int | None = None
) -> tuple[Any, ...]:
    """A ≈ W (m×r) H (r×n), by the multiplicative updates of Lee & Seung."""
    return _factor(A, {"r": r}, "mu", init=init, end=end, epochs=epochs, seed=seed)


def plot_nmf_results(
    W: Any,
    H: Any,
    errorsGD: Sequence[float],
    rankGD: Sequence[float],
    nuclearrankGD: Sequence[float],
    SVGD1: Sequence[float],
    SVGD2: Sequence[float],
    image_shape: tuple[int, ...] = (64, 64),
    X: Any = None,
    epochs_metrics: Sequence[int] | None = None,
    limit: int = 30000,
) -> Figure:
    """Heatmaps of W and H, the training curves, the first signatures, and with X a reconstruction.

    Args:
        W, H: the factors.
        errorsGD, rankGD, nuclearrankGD, SVGD1, SVGD2: the logs.
        image_shape: the shape of a row of H as an image.
        X: the data, for the reconstruction of its first row.
        epochs_metrics: the epoch of each entry of the logs; None counts from 1.
        limit: the last epoch to show.
    """
    columns = dict(zip(LOGS, (errorsGD, rankGD, nuclearrankGD, SVGD1, SVGD2), strict=True))
    epochs = range(1, len(errorsGD) + 1) if epochs_metrics is None else epochs_metrics
    history = pd.DataFrame({"step": list(epochs), **{name: list(values) for name, values in columns.items()}})
    return plots.results_page((W, H), history[history["step"] <= limit], image_shape, X=X)


def plot_H_signatures(H: Any, title: str, image_shape: tuple[int, ...] = (28, 28), n_show: int = 5) -> Figure:
    """The first rows of H as images."""
    return _figure_of(plots.signatures(H, image_shape, n_show=n_show, title=title))


def plot_mnist_reconstruction(
    A: Any, W1: Any, W2: Any, H: Any, index: int = 0, image_shape: tuple[int, ...] = (28, 28)
) -> Figure:
    """Original | reconstruction by W1 W2 H | absolute error of one row of A."""
    return _reconstruction(A, (W1, W2, H), index, image_shape)


def plot_mnist_reconstruction_nmf(
    A: Any, W: Any, H: Any, index: int = 0, image_shape: tuple[int, ...] = (28, 28)
) -> Figure:
    """Original | reconstruction by W H | absolute error of one row of A."""
    return _reconstruction(A, (W, H), index, image_shape)


def _factor(
    A: Any, ranks: dict[str, int], solver: str, *, init: str, end: str, epochs: int, seed: int | None
) -> tuple[Any, ...]:
    if init not in STARTS:
        raise ValueError(f"init must be one of {', '.join(STARTS)}, got {init!r}")
    if end not in ENDS:
        raise ValueError(f"end must be one of {', '.join(ENDS)}, got {end!r}")
    sizes = tuple(check_size(name, r) for name, r in ranks.items())
    check_size("epochs", epochs, least=0)
    X = A if isinstance(A, Tensor) else np.asarray(A)
    factors = _uniform(X, sizes, seed) if init == "random" else None
    rate = LEARNING_RATE if solver == "adam" else None
    model = DeepNMF(
        sizes,
        solver=solver,  # pyrefly: ignore[bad-argument-type]
        init=STARTS[init],  # pyrefly: ignore[bad-argument-type]
        learning_rate=rate,
        betas=BETAS,
        max_iter=epochs,
        stop="none",
        track_history=end != "matrix",
        random_state=seed,
    ).fit(X, factors=factors)
    logs = [model.history_[name].iloc[1:].tolist() for name in LOGS]  # Row 0 is the start: one entry an epoch.
    return {"matrix": (*model.factors_,), "lists": (*logs,), "all": (*model.factors_, *logs)}[end]


def _uniform(X: Any, sizes: tuple[int, ...], seed: int | None) -> list[Tensor]:
    """Factors uniform on [0, 1); for X of a wrong shape any, for the estimator says best what is wrong with it."""
    if np.ndim(X) != 2:
        return [torch.ones(1, 1)] * (len(sizes) + 1)
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    return [torch.rand(shape, generator=generator) for shape in pairwise([X.shape[0], *sizes, X.shape[1]])]


def _reconstruction(A: Any, factors: Sequence[Any], index: int, image_shape: tuple[int, ...]) -> Figure:
    rows = torch.as_tensor(np.asarray(A))
    if not -len(rows) <= index < len(rows):
        raise ValueError(f"index must be in 0..{len(rows) - 1}, got {index}")
    first, *rest = (torch.as_tensor(np.asarray(F)) for F in factors)
    product = first[index].unsqueeze(0)
    for F in rest:
        product = product @ F
    return _figure_of(plots.reconstructions(rows[index].unsqueeze(0), product, image_shape))


def _figure_of(axes: Any) -> Figure:
    return np.ravel(axes)[0].figure
