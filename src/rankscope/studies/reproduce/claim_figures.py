"""The claim's figures: three fits step by step, the regret of every rule, and ranks at plateaus against the best."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from rankscope import plots
from rankscope.plots.curves import shade_plateaus
from rankscope.runs import Run
from rankscope.studies.reproduce.denoising import at, confirmed
from rankscope.trace import Plateau

COLOURS = {
    "first": "#D55E00",
    "last": "#E69F00",
    "best plateau": "#009E73",
    "end": "#0072B2",
    "tuned rank": "#CC79A7",
}
INK, FAINT = "#333333", "#8C8C8C"
MOST = 30.0
"""Regrets above are drawn at the edge."""


def examples(histories: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Figure:
    """Above, error to X and to Y with what each rule keeps; below, the effective rank; plateaus shaded."""
    drawn, axes = plt.subplots(
        2, len(histories), figsize=(7.16, 4.4), layout="constrained", sharex="col", squeeze=False
    )
    for (name, history), (top, bottom) in zip(histories.items(), axes.T, strict=True):
        plateaus = [Plateau(**plateau) for plateau in facts[name]["plateaus"]]
        x = history["step"] + 1
        top.plot(x, history["clean_error"], color=INK, lw=1.3, label="error to X")
        top.plot(x, history["relative_error"], color=FAINT, lw=0.9, ls="--", label="error to Y")
        top.axhline(
            history["tuned_error"].iloc[0], color=COLOURS["tuned rank"], lw=0.9, ls=":", label="tuned rank, to X"
        )
        bottom.plot(x, history["effective_rank"], color="#0072B2", lw=1.3)
        _marks(top, history, plateaus)
        top.set(xscale="log", yscale="log", xlim=(5, None))
        bottom.set(yscale="log")
        for ax in (top, bottom):
            shade_plateaus(ax, plateaus, labelled=ax is bottom)
        first = bottom is axes[1, 0]
        plots.dress(top, title=name.replace(", ", "\n"), y="relative error" if first else None)
        plots.dress(bottom, x="step + 1", y="effective rank" if first else None)
        _plain(top)
        _plain(bottom)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=7, frameon=False, handletextpad=0.4)
    return drawn


def regret(folder: Run) -> Figure:
    """Regret against the noise, a panel for each data set: two factors, Gaussian noise, small starts."""
    table = pd.read_csv(folder.path / "regret.csv")
    table = table[(table["noise"] == "gaussian") & (table["depth"] == 2) & (table["level"] > 0)]
    table = table[table["start"] == "small"]
    names = list(dict.fromkeys(table["data"]))
    drawn, axes = plt.subplots(
        -(-len(names) // 3), min(3, len(names)), figsize=(7.16, 1.0 + 2.1 * -(-len(names) // 3)),
        layout="constrained", sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for ax, name in zip(axes.flat, names, strict=False):
        part = table[table["data"] == name]
        levels = sorted(part["level"].unique())
        for i, (rule, colour) in enumerate(COLOURS.items()):
            row = part[part["rule"] == rule].sort_values("level")
            x = np.arange(len(levels)) + 0.12 * (i - 2)
            mean = row["mean"].clip(upper=MOST).to_numpy()
            reach = np.abs(row[["low", "high"]].clip(upper=MOST).to_numpy().T - mean)
            ax.errorbar(x, mean, yerr=np.nan_to_num(reach), color=colour, fmt="o", ms=3.5, lw=1.2, label=rule)
            over = row["mean"].to_numpy() > MOST
            if over.any():
                ax.plot(x[over], np.full(over.sum(), MOST), "^", color=colour, ms=5, clip_on=False)
        ax.axhline(1, color=INK, lw=0.8, zorder=0)
        ax.set(
            yscale="log", ylim=(0.3, MOST), xticks=range(len(levels)), xticklabels=[f"{level:g}" for level in levels]
        )
        _plain(ax)
        ax.set_yticks([0.3, 1, 3, 10, 30])
        inner = ax.get_subplotspec()
        assert inner is not None
        plots.dress(
            ax, title=name, x="noise" if inner.is_last_row() else None, y="regret" if inner.is_first_col() else None
        )
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    return drawn


def ranks(folder: Run) -> Figure:
    """Effective rank at the first and at the last plateau against that at the fit's best step."""
    fits = pd.read_csv(folder.path / "each-fit.csv")
    fits = fits[(fits["level"] > 0) & (fits["depth"] == 2)]
    kinds = {"digits|mnist": "images", "parts": "parts", "directions": "directions"}
    drawn, axes = plt.subplots(1, 3, figsize=(7.16, 3.0), layout="constrained", sharex=True, sharey=True)
    for ax, (pattern, title) in zip(axes, kinds.items(), strict=True):
        part = fits[fits["data"].str.contains(pattern)]
        for rule, marker in (("last", "s"), ("first", "o")):
            ax.plot(
                part["rank: oracle"], part[f"rank: {rule}"], marker, color=COLOURS[rule], ms=3, mew=0, alpha=0.6,
                label=f"{rule} plateau",
            )  # fmt: skip
        ax.plot([0.9, 40], [0.9, 40], color=INK, lw=0.8, zorder=0)
        ax.set(xscale="log", yscale="log", xlim=(0.9, 40), ylim=(0.9, 40))
        _plain(ax)
        ax.set_xticks([1, 2, 5, 10, 20])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        y = "effective rank at a plateau" if ax is axes[0] else None
        plots.dress(ax, title=title, x="effective rank at the best step", y=y)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return drawn


def _marks(ax: Axes, history: pd.DataFrame, plateaus: list[Plateau]) -> None:
    """Dots at what the rules keep of the error to X."""
    seen = list(confirmed(history))
    kept = {"end": history.iloc[-1], "last": at(history, plateaus[-1].midpoint) if plateaus else None}
    kept["first"] = at(history, seen[0].midpoint) if seen else None
    for rule, record in kept.items():
        if record is not None:
            ax.plot(record["step"] + 1, record["clean_error"], "o", color=COLOURS[rule], ms=5.5, label=rule)
    best = history.iloc[int(history["clean_error"].argmin())]
    ax.plot(best["step"] + 1, best["clean_error"], "*", color=INK, mec="white", mew=0.5, ms=8, label="best step")


def _plain(ax: Axes) -> None:
    """Numbers on a logarithmic axis as they are read."""
    low, high = ax.get_ylim()
    subs = (1.0, 2.0, 5.0) if high < 150 * low else (1.0,)
    ax.yaxis.set_major_locator(LogLocator(subs=subs))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
