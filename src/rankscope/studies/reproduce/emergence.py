"""The order in which singular values emerge: projected gradient descent on ‖A − W1 W2 H‖² from uniform [0, 1e-2].

Every σ_k of the product against the epoch, with A's beside them; when each passes half of where it ends, and which
right singular vector of A the new direction lies along then.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rankscope import plots
from rankscope.nmf import levels
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.rules import GradientDescent
from rankscope.runs import Run
from rankscope.studies.reproduce.experiment import Check, Descent, descend
from rankscope.trace import log_spaced

NAME = "gradient descent"
SCALE, RATE, MOST = 1e-2, 1e-3, 10


class Emergence(NamedTuple):
    """How many images, which (r₁, r₂), and for how many epochs."""

    images: int
    sizes: tuple[int, int]
    epochs: int


def descend_from_small(
    X: Tensor, size: Emergence, say: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.DataFrame, Descent]:
    """σ against the epoch; of every k when it emerged, how large it ended, and A's own; and the descent."""
    A = X[: size.images].contiguous()
    generator = torch.Generator().manual_seed(0)
    start = [SCALE * torch.rand(shape, generator=generator) for shape in pairwise((len(A), *size.sizes, A.shape[1]))]
    count = min(MOST, *size.sizes)
    names = [f"sigma_{k}" for k in range(1, count + 1)]
    known = levels(RowBlocks.of(A), count)
    further = {name: _at(k) for k, name in enumerate(names) if k >= 2}
    settings = {"measures": further, "levels": known, "per_e_fold": 200, "keep": log_spaced(50)}
    descent = descend(A, start, GradientDescent(RATE), size.epochs, **settings)
    history = descent.history
    _, sigma, V = torch.linalg.svd(A, full_matrices=False)
    rows = []
    for k, name in enumerate(names):
        half = int(np.argmax(history[name].to_numpy() >= history[name].iloc[-1] / 2))
        step = int(history["step"].iloc[half])
        there = descent.kept[min(descent.kept, key=lambda kept: abs(kept - step))]
        cosines = (torch.linalg.svd(there.product(), full_matrices=False).Vh[k] @ V[:30].T).abs()
        rows.append(
            {
                "k": k + 1,
                "half_rise": step,
                "sigma": float(history[name].iloc[-1]),
                "sigma_of_A": float(sigma[k]),
                "nearest_of_A": int(cosines.argmax()) + 1,
                "cosine": float(cosines.max()),
            }
        )
    curves = history[["step", *names]]
    kept = Descent(history.drop(columns=names[2:]), descent.chain, descent.plateaus, known, descent.kept)
    say(f"brief: singular values in {history['seconds'].iloc[-1]:.0f} s")
    return curves, pd.DataFrame(rows), kept


def _at(k: int) -> Callable[[Tensor], Tensor]:
    return lambda sigma: sigma[..., k]


def checks(table: pd.DataFrame) -> list[Check]:
    """One after another, in A's order, each near A's."""
    steps, count = table["half_rise"].to_numpy(), len(table)
    ratio = table["sigma"] / table["sigma_of_A"]
    own = table["nearest_of_A"] == table["k"]
    gaps = np.diff(np.log1p(steps))
    return [
        Check("σ₁ … σ_r: pairs that emerge in order", f"{count - 1}", float((gaps >= 0).sum()), low=count - 1),
        Check("pairs apart by more than 5% of the epoch", f"{count - 1}", float((gaps > 0.05).sum()), low=count - 1),
        Check("σ_k that emerge along A's own k-th direction", f"{count}", float(own.sum()), low=count),
        Check("smallest σ_k at the end over A's", "1 ± 5%", float(ratio.min()), 0.95, 1.05),
        Check("largest σ_k at the end over A's", "1 ± 5%", float(ratio.max()), 0.95, 1.05),
    ]


def figure(folder: Run) -> Figure:
    """σ_k against the epoch, all of it and where all but the first emerge; A's own as marks at the right."""
    curves, table = (pd.read_csv(folder.path / f"{name}.csv") for name in ("singular_values", "emergence"))
    drawn, (whole, close) = plt.subplots(1, 2, figsize=(7.16, 3.1), layout="constrained", width_ratios=(1, 1.25))
    first, last = table["half_rise"].iloc[1:].min() + 1.0, table["half_rise"].max() + 1.0
    left, right = first - 0.3 * (last - first), last + 1.2 * (last - first)
    shown = curves[curves["step"].between(left, right)]
    for row, colour in zip(
        table.to_dict("records"), plt.get_cmap("viridis")(np.linspace(0, 0.9, len(table))), strict=True
    ):
        name, k = f"sigma_{row['k']}", int(row["k"])
        whole.plot(curves["step"] + 1, curves[name], color=colour, lw=1.1)
        if k > 1:
            close.plot(shown["step"], shown[name], color=colour, lw=1.2, label=f"{k}")
            close.plot([right, right + 0.05 * (right - left)], [row["sigma_of_A"]] * 2, color=colour, lw=1.8)
    whole.set(xscale="log", yscale="log", ylim=(1e-2, None), xlim=(10, None))
    close.set(ylim=(0, None), xlim=(left, right + 0.05 * (right - left)))
    close.legend(title="k", fontsize=7, title_fontsize=7, frameon=False, loc="lower right", ncols=3)
    close.annotate("of A", (right, 1.04 * table["sigma_of_A"].iloc[1]), fontsize=7, ha="center")
    plots.dress(whole, x="epoch + 1", y="singular values of W1 W2 H")
    plots.dress(close, x="epoch")
    return drawn
