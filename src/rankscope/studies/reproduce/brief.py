"""The brief's own findings, checked: what changes at a jump, what emerges when, and two objectives over a grid.

They were reported from runs of the original project on MNIST and are expectations here: one that does not hold
shows NO, and is not tuned until it does. The parts are ``archetypes``, ``emergence``, ``grid`` and ``locking``.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from rankscope import plots
from rankscope.datasets import load_mnist
from rankscope.nmf.rules import Adam
from rankscope.studies.reproduce import archetypes, emergence, grid, locking
from rankscope.studies.reproduce.experiment import Experiment, Findings, Larger

FIRST = 100
"""The first image: the original project's rows started there."""


@dataclass(frozen=True)
class Size:
    """How large each part is."""

    archetypes: archetypes.Archetypes
    emergence: emergence.Emergence
    grid: grid.Grid


SMALL = Size(
    archetypes.Archetypes(250, (10, 5), 10_000, 2),
    emergence.Emergence(250, (20, 10), 6_000),
    grid.Grid(200, 10_000, (5, 10), 3),
)
FULL = Size(
    archetypes.Archetypes(250, (10, 5), 20_000, 5),
    emergence.Emergence(250, (20, 10), 20_000),
    grid.Grid(500, 40_000, (5, 20), 3),
)


def measure(say: Callable[[str], None], size: Size) -> Findings:
    """Every part, the grid last.

    Raises:
        MissingDataError: MNIST is not here; the message says how to get it.
    """
    data = load_mnist()
    X, labels = torch.from_numpy(data.X)[FIRST:], np.asarray(data.dataset.labels)[FIRST:]
    A = X[: size.archetypes.images].contiguous()

    climbs = {f"adam, seed {seed}": archetypes.climb(A, size.archetypes, Adam(locking.RATE), seed)
              for seed in range(size.archetypes.seeds)}  # fmt: skip
    say(f"brief: archetypes, {len(climbs)} fits of {size.archetypes.epochs:,} epochs")
    found = [
        archetypes.changes(climb, A, labels[: len(A)]).assign(seed=seed) for seed, climb in enumerate(climbs.values())
    ]
    turned = pd.concat([part for part in found if len(part)] or found[:1], ignore_index=True)

    fits = {
        "adam": climbs["adam, seed 0"],
        "adam that forgets sooner": archetypes.climb(A, size.archetypes, Adam(locking.RATE, (0.9, 0.99)), 0),
        "relu and floor": archetypes.climb(A, size.archetypes, locking.ReluAdam(Adam(locking.RATE), locking.FLOOR), 0),
        "relu and clamp": archetypes.climb(A, size.archetypes, locking.ReluAdam(Adam(locking.RATE)), 0),
    }
    nudged = locking.nudge(A, fits["relu and clamp"], size.archetypes.epochs // 4)
    say("brief: locking, 3 fits, and one of them nudged")
    curves, emerged, small = emergence.descend_from_small(X, size.emergence, say)
    plateaus = pd.concat(
        [_plateaus(A, fits), _plateaus(X[: size.emergence.images], {emergence.NAME: small})], ignore_index=True
    )
    ends, cells = grid.fit_grid(X, size.grid, say)
    checks = [
        *archetypes.checks(turned, len(climbs)),
        *emergence.checks(emerged),
        *grid.checks(ends),
        *locking.checks(plateaus, fits, nudged),
    ]
    descents = {**climbs, **{name: fit for name, fit in fits.items() if name != "adam"}}
    descents |= {f"relu and clamp, {name}": fit for name, fit in nudged.items()}
    tables = {
        "archetypes": turned,
        "plateaus": plateaus,
        "singular_values": curves,
        "emergence": emerged,
        "grid": ends,
        "grid_means": grid.means(ends),
    }
    stages = archetypes.stages(climbs["adam, seed 0"])
    return Findings(checks, {**descents, emergence.NAME: small, **cells}, tables, stages)


def _plateaus(A: torch.Tensor, fits: Mapping[str, Any]) -> pd.DataFrame:
    """Before each jump, at the middle of each plateau, and at the end of each fit: what the factors are like there."""
    rows = []
    for name, fit in fits.items():
        middles = {plateau.midpoint for plateau in fit.plateaus if plateau.end < fit.history["step"].iloc[-1]}
        befores = {jump.before for jump in archetypes.jumps(fit.history)} if name != emergence.NAME else set()
        steps = befores | middles | {int(fit.history["step"].iloc[-1])}
        for step in sorted(steps):
            kept = min(fit.kept, key=lambda each: abs(each - step))
            row = locking.reading(name, kept, A, fit.kept[kept], fit.history)
            passed = step < max(steps) and row["kind"] == "converged"  # It went on: it lay at a saddle.
            rows.append(row | {"kind": "transient"} if passed else row)
    return pd.DataFrame(rows)


def figure(histories: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Figure:
    """The same start under three rules, and nudged: the effective rank and the error against the epoch."""
    drawn, axes = plt.subplots(1, 2, figsize=(7.16, 2.8), layout="constrained")
    looks = {
        "adam, seed 0": ("#0072B2", "-", "projected Adam, β₂ = 0.999"),
        "adam that forgets sooner": ("#009E73", "-", "projected Adam, β₂ = 0.99"),
        "relu and floor": ("#E69F00", (0, (1, 1.5)), "relu, floor of 1e-10"),
        "relu and clamp": ("#D55E00", "--", "relu, clamp at 0"),
        "relu and clamp, nudged": ("#CC79A7", "-", "… then zeros nudged"),
    }
    for name, (colour, style, label) in looks.items():
        history = histories[name].iloc[1:]
        offset = histories["relu and clamp"]["step"].iloc[-1] if name.endswith("nudged") else 0
        for ax, quantity in zip(axes, ("effective_rank", "relative_error"), strict=True):
            ax.plot(history["step"] + offset, history[quantity], color=colour, ls=style, lw=1.1, label=label)
    axes[0].set_ylim(0, None)
    axes[1].set(yscale="log", ylim=(None, 2))
    axes[0].legend(fontsize=7, frameon=False)
    plots.dress(axes[0], x="epoch", y="effective rank")
    plots.dress(axes[1], x="epoch", y="relative error")
    return drawn


def _settings(size: Size) -> dict[str, Any]:
    return {"first_image": FIRST, "learning_rate": locking.RATE, **asdict(size)}


EXPERIMENT = Experiment(
    title="The brief's own findings: archetypes at the jumps, the order of the singular values, two objectives",
    source="the report of the original project's authors; layer-wise: De Handschutter & Gillis 2023",
    settings=_settings(SMALL),
    measure=partial(measure, size=SMALL),
    figure=figure,
    figures={"archetypes": archetypes.figure, "emergence": emergence.figure, "grid": grid.figure},
    full=Larger(_settings(FULL), partial(measure, size=FULL)),
    in_all=False,
    needs=lambda: load_mnist(),  # noqa: PLW0108  looked up when it is called
)
