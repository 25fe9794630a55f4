"""Two objectives over a grid of (r₁, r₂): ‖A − W1 W2 H‖² and the layer-wise ‖A − W1 Z‖² + ‖Z − W2 H‖².

Adam from factors uniform on [0, 1], Z among them. Of every fit: the effective rank and the relative error of W1 W2 H
at the end, and the epoch from which on the effective rank stays within 5% of its end. The global objective starts
from far larger products than the layer-wise one, and Adam remembers their gradients. So there is a control: the global
objective with a shorter memory, in a quarter of the epochs.
"""

from collections.abc import Callable
from itertools import pairwise, product
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rankscope import plots
from rankscope.nmf.chain import Chain, Layers
from rankscope.nmf.rules import Adam
from rankscope.runs import Run
from rankscope.studies.reproduce.experiment import Check, Descent, descend

RATE, NEAR = 1e-2, 0.05


class Arm(NamedTuple):
    """An objective and Adam's β₂, for so much of the epochs; how a figure shows it."""

    layerwise: bool
    beta2: float
    share: float
    label: str
    colour: str


ARMS = {
    "global": Arm(False, 0.999, 1.0, "global", "#0072B2"),
    "layerwise": Arm(True, 0.999, 1.0, "layer-wise", "#D55E00"),
    "control": Arm(False, 0.99, 0.25, "global, β₂ = 0.99", "#009E73"),
}
"""The control forgets its first gradients ten times sooner: what it shares with the layer-wise fits is not theirs."""


class Grid(NamedTuple):
    """How many images, for how many epochs, which r₁ and r₂, and how many seeds."""

    images: int
    epochs: int
    ranks: tuple[int, ...]
    seeds: int


def fit_grid(X: Tensor, grid: Grid, say: Callable[[str], None]) -> tuple[pd.DataFrame, dict[str, Descent]]:
    """A row for every fit of the first images of X, and the descents of the first seed."""
    A, rows, descents = X[: grid.images].contiguous(), [], {}
    for seed in range(grid.seeds):
        for r1, r2, name in product(grid.ranks, grid.ranks, ARMS):
            arm, start = ARMS[name], _start(A, (r1, r2), seed, layerwise=ARMS[name].layerwise)
            steps = int(arm.share * grid.epochs)
            descent = descend(A, start, Adam(RATE, (0.9, arm.beta2)), steps, per_e_fold=60)
            rows.append({"arm": name, "r1": r1, "r2": r2, "seed": seed, **_ending(descent.history)})
            if seed == 0:
                history = descent.history.drop(columns="layerwise_error", errors="ignore")
                descents[f"grid {r1},{r2} {name}"] = Descent(history, descent.chain, descent.plateaus)
        say(f"brief: grid, seed {seed}: {len(ARMS) * len(grid.ranks) ** 2} fits of {grid.epochs:,} epochs")
    return pd.DataFrame(rows), descents


def _start(A: Tensor, sizes: tuple[int, int], seed: int, *, layerwise: bool) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    shapes = pairwise((len(A), *sizes, A.shape[1]))
    chain = Chain(tuple(torch.rand(shape, generator=generator) for shape in shapes))
    if not layerwise:
        return chain
    Z = torch.rand(sizes[0], A.shape[1], generator=generator)
    return Chain(chain.factors, Layers((Z,), (1.0, 1.0)))


def _ending(history: pd.DataFrame) -> dict[str, float]:
    """Where a fit ended and from which epoch on it was near there; how far up and down it went after epoch 100."""
    ranks = history["effective_rank"]
    away = (ranks / ranks.iloc[-1] - 1).abs() > NEAR
    settled = history["step"][away].max() if away.any() else -1
    late = ranks[history["step"] >= 100]
    return {
        "effective_rank": float(ranks.iloc[-1]),
        "relative_error": float(history["relative_error"].iloc[-1]),
        "settled": max(int(settled) + 1, 1),
        "travel": float(late.diff().abs().sum() / ranks.iloc[-1]),
    }


def checks(table: pd.DataFrame) -> list[Check]:
    """The brief's findings of the two objectives, each as a figure."""
    wide = table.pivot(index=["r1", "r2", "seed"], columns="arm")
    sooner = np.log(wide["settled", "layerwise"] / wide["settled", "global"])
    smoother = wide["travel", "layerwise"] / wide["travel", "global"]
    higher = wide["effective_rank", "layerwise"] > wide["effective_rank", "global"]
    lower = wide["relative_error", "layerwise"] < wide["relative_error", "global"]
    sooner_than_control = np.log(wide["settled", "layerwise"] / wide["settled", "control"])
    gain = wide["relative_error", "control"] / wide["relative_error", "layerwise"]
    share = "grid: share of fits in which the layer-wise one ends with"
    found = [
        Check("grid: epochs to within 5% of the last rank, layer-wise over global", "< 1",
              float(np.exp(sooner.mean())), high=1),
        Check("grid: ups and downs of the rank, layer-wise over global", "< 1", float(smoother.mean()), high=1),
        Check(f"{share} a higher effective rank", "> 1/2", float(higher.mean()), low=0.5),
        Check(f"{share} a lower error", "> 1/2", float(lower.mean()), low=0.5),
        Check("grid: epochs to within 5%, layer-wise over global at β₂ = 0.99", "< 1 if the objective does it",
              float(np.exp(sooner_than_control.mean())), high=1),
        Check("grid: error, global at β₂ = 0.99 over layer-wise", "> 1 if the objective does it",
              float(gain.mean()), low=1),
    ]  # fmt: skip
    for name, quantity in product(ARMS, ("effective_rank", "relative_error")):
        part = table[table["arm"] == name]
        explained = _explained(part[quantity], part[["r1", "r2"]].min(axis=1))
        words = f"grid: share of the variance of the {quantity.replace('_', ' ')} by min(r₁, r₂), {ARMS[name].label}"
        found.append(Check(words, "≥ 0.8", explained, low=0.8))
    return found


def _explained(values: pd.Series, groups: pd.Series) -> float:
    """The share of the variance of values that lies between groups."""
    residual = values - values.groupby(groups).transform("mean")
    total = float(((values - values.mean()) ** 2).sum())
    return 1 - float((residual**2).sum()) / total if total else 1.0


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds for every cell and objective."""
    columns = ["effective_rank", "relative_error", "settled"]
    found = table.groupby(["r1", "r2", "arm"])[columns].agg(["mean", "std"]).reset_index()
    found.columns = ["_".join(part for part in pair if part).replace("_mean", "") for pair in found.columns]
    return found


def figure(folder: Run) -> Figure:
    """The effective rank against the epoch in every cell, first seed; then where all seeds ended."""
    table, metrics = pd.read_csv(folder.path / "grid.csv"), folder.metrics()
    cells = list(dict.fromkeys(zip(table["r1"], table["r2"], strict=True)))
    columns = table["r2"].nunique()
    rows = -(-len(cells) // columns)
    drawn = plt.figure(figsize=(7.16, 1.7 * rows + 2.4), layout="constrained")
    top, bottom = np.ravel(drawn.subfigures(2, 1, height_ratios=(1.7 * rows, 2.4), squeeze=False))
    axes = top.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (r1, r2) in zip(axes, cells, strict=False):
        for name, arm in ARMS.items():
            history = metrics[metrics["fit"] == f"grid {r1},{r2} {name}"]
            ax.plot(history["step"] + 1, history["effective_rank"], color=arm.colour, lw=1.1, label=arm.label)
        ax.set_xscale("log")
        plots.dress(ax, title=f"$r_1$ = {r1}, $r_2$ = {r2}")
    for ax in axes[len(cells) :]:
        ax.set_axis_off()
    axes[0].legend(fontsize=7, frameon=False)
    top.supxlabel("epoch + 1", fontsize=8)
    top.supylabel("effective rank", fontsize=8)
    for ax, quantity in zip(bottom.subplots(1, 3), ("effective_rank", "relative_error", "settled"), strict=True):
        _draw_ends(ax, table, cells, quantity)
    return drawn


def _draw_ends(ax: plt.Axes, table: pd.DataFrame, cells: list[tuple[int, int]], quantity: str) -> None:
    for shift, (name, arm) in zip((-0.18, 0.0, 0.18), ARMS.items(), strict=True):
        for place, (r1, r2) in enumerate(cells):
            part = table[(table["r1"] == r1) & (table["r2"] == r2) & (table["arm"] == name)]
            places = np.full(len(part), place + shift)
            ax.plot(places, part[quantity], "o", ms=3, color=arm.colour, alpha=0.8, mew=0)
    ax.set_xticks(range(len(cells)), [f"{r1},{r2}" for r1, r2 in cells], rotation=90 if len(cells) > 4 else 0)
    if quantity == "settled":
        ax.set_yscale("log")
    names = {"effective_rank": "last effective rank", "relative_error": "last relative error"}
    plots.dress(ax, x="$r_1$, $r_2$", y=names.get(quantity, "epochs to within 5%"))
