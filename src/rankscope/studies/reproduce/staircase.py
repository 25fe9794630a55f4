"""A: the staircase with a closed form.

Gradient descent on ½‖W₁ … W_N − A‖² from W_j = αI. With A = Q diag(λ) Qᵀ the eigenvalues decouple, d ← d − η
d^{N−1}(d^N − λ) for each, so a singular value σ = d^N of the product rises from α^N to λ alone, and is half-way up at
step

    N = 2:  ln((λ − α²)/α²) / (2ηλ),        N = 3:  1/(ηλα)

(gradient flow; for N = 3 to leading order in α). Between two rises the product is the best rank-k approximation of A,
and its effective rank that of A_k: not k. The factors have no sign, so A is rotated.

Reference: Saxe, McClelland & Ganguli 2014, ICLR, arXiv:1312.6120; Gidel, Bach & Lacoste-Julien 2019, NeurIPS,
arXiv:1904.13262.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from rankscope import plots
from rankscope.nmf.rules import GradientDescent
from rankscope.studies.reproduce.experiment import Check, Descent, Experiment, Findings, descend
from rankscope.trace import Plateau, RankLevel, rank_levels

SIZE, VALUES, RATE = 10, (10.0, 5.0, 1.0), 1e-3
DEPTHS = {2: (1e-4, 20_000), 3: (1e-2, 160_000)}
"""Depth: (α, steps)."""
TOLERANCE = 0.01
FIRST_SHOWN, HIGHEST_SHOWN, LEAST_SHOWN = 0.1, 3.0, 1e-5
"""The figure leaves out steps before a tenth of the first half-rise, effective ranks above 3 (10 at αI), and relative
errors below 1e-5 (they go on to rounding)."""
COLOURS = ("#0072B2", "#E69F00", "#009E73")


def half_rise(depth: int, value: float, alpha: float) -> float:
    """The step at which σ = λ/2, by the closed form."""
    if depth == 2:
        return math.log((value - alpha**2) / alpha**2) / (2 * RATE * value)
    return 1 / (RATE * (depth - 2) * value * alpha ** (depth - 2))


def measure(say: Callable[[str], None]) -> Findings:
    """Both depths."""
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)).Q
    spectrum = torch.tensor([*VALUES, *[0.0] * (SIZE - len(VALUES))], dtype=torch.float64)
    A, levels = Q * spectrum @ Q.mT, rank_levels(VALUES)
    checks, descents = [], {}
    for depth, (alpha, steps) in DEPTHS.items():
        start = [alpha * torch.eye(SIZE, dtype=torch.float64)] * depth
        descent = descend(
            A,
            start,
            GradientDescent(RATE, nonnegative=False),
            steps,
            measures={"sigma_3": lambda sigma: sigma[..., 2]},
            levels=levels,
            per_e_fold=400,
        )
        descents[f"depth {depth}"] = descent
        checks += _checks(depth, alpha, descent)
        say(f"staircase: depth {depth} in {descent.history['seconds'].iloc[-1]:.0f} s")
    return Findings(checks, descents)


def _checks(depth: int, alpha: float, descent: Descent) -> list[Check]:
    history, name = descent.history, f"depth {depth}"
    checks = [
        Check.near(
            f"{name}: step at which σ{i} is half of {value:g}",
            half_rise(depth, value, alpha),
            _crossing(history["step"], history[f"sigma_{i}"], value / 2),
            TOLERANCE,
        )
        for i, value in enumerate(VALUES, start=1)
    ]
    found = {plateau.k: plateau for plateau in descent.plateaus}
    checks.append(Check(f"{name}: plateaus found", "3", len(descent.plateaus), 3, 3))
    for level in descent.levels:
        stretch = _within(history, found.get(level.k))
        ratio = sum(VALUES[: level.k]) / VALUES[0]
        rank, nuclear = (float(stretch[column].median()) for column in ("effective_rank", "nuclear_over_operator"))
        checks.append(Check.near(f"{name}: effective rank on plateau {level.k}", level.effective_rank, rank, TOLERANCE))
        checks.append(Check.near(f"{name}: nuclear/operator norm on plateau {level.k}", ratio, nuclear, TOLERANCE))
    return checks


def _crossing(steps: pd.Series, values: pd.Series, height: float) -> float:
    """The step at which values first reach a height, between records by interpolation; NaN if never."""
    reached = np.flatnonzero(values.to_numpy() >= height)
    if not len(reached):
        return math.nan
    i = max(int(reached[0]), 1)
    return float(np.interp(height, values.iloc[i - 1 : i + 1], steps.iloc[i - 1 : i + 1]))


def _within(history: pd.DataFrame, plateau: Plateau | None) -> pd.DataFrame:
    return history.iloc[:0] if plateau is None else history[history["step"].between(plateau.start, plateau.end)]


def figure(histories: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Figure:
    """For each depth the effective rank with its plateaus, and the singular values under the closed-form times."""
    drawn, axes = plt.subplots(2, len(histories), figsize=(7.16, 5.4), layout="constrained", squeeze=False)
    for (name, history), top, bottom in zip(histories.items(), axes[0], axes[1], strict=True):
        depth = int(name.split()[-1])
        plateaus = [Plateau(**plateau) for plateau in facts[name]["plateaus"]]
        levels = [RankLevel(**level) for level in facts[name]["levels"]]
        left = FIRST_SHOWN * half_rise(depth, VALUES[0], DEPTHS[depth][0])
        shown = history[history["step"] >= min(left, history["step"].median())]
        errors = shown["relative_error"].where(shown["relative_error"] > LEAST_SHOWN)
        ranks = shown["effective_rank"].where(shown["effective_rank"] < HIGHEST_SHOWN)
        plots.staircase(shown.assign(relative_error=errors, effective_rank=ranks), plateaus, levels=levels, ax=top)
        top.set_ylim(0.9, HIGHEST_SHOWN)
        top.set_title(f"{name}, α = {DEPTHS[depth][0]:g}", fontsize=8, pad=44)
        for i, (value, colour) in enumerate(zip(VALUES, COLOURS, strict=True), start=1):
            label = f"{'₀₁₂₃'[i]} / {value:g}"
            bottom.plot(history["step"] + 1, history[f"sigma_{i}"] / value, color=colour, lw=1.1, label=f"σ{label}")
            time = half_rise(depth, value, DEPTHS[depth][0])
            bottom.axvline(time, color=colour, lw=0.8, ls=(0, (4, 2)))
            bottom.plot(time, 0.5, "o", color=colour, ms=3.5)
        bottom.set(xscale="log", xlim=top.get_xlim(), ylim=(-0.03, 1.08))
        plots.dress(bottom, x="step + 1", y="singular value / its limit")
        bottom.plot([], [], color="#333333", ls=(0, (4, 2)), lw=0.8, marker="o", ms=3.5, label="closed form")
        bottom.legend(fontsize=7, frameon=False, loc="upper left")
    return drawn


EXPERIMENT = Experiment(
    title="A. The staircase of a deep linear network has a closed form (depths 2 and 3)",
    source="Saxe, McClelland & Ganguli 2014, arXiv:1312.6120; Gidel et al. 2019, arXiv:1904.13262",
    settings={
        "singular_values": list(VALUES),
        "learning_rate": RATE,
        "depths": {str(depth): {"alpha": alpha, "steps": steps} for depth, (alpha, steps) in DEPTHS.items()},
    },
    measure=measure,
    figure=figure,
)
