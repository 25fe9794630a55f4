"""D: what a staircase looks like on real data: one stair.

NMF of 1,000 handwritten digits by projected gradient descent on ‖A − W H‖² at rate 1e-4 from W, H uniform on [0,
1e-3]. There is one early plateau, at the best rank-one approximation (effective rank 1, relative error 0.299: the
mean image), then a ramp: σ₂, σ₃, σ₄ of the digits are too close for stairs at 1.65, 2.37 and 3.13.

Reference: this project's own acceptance experiment; the data is scikit-learn's ``load_digits``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from rankscope import plots
from rankscope.datasets import load_digits
from rankscope.nmf import levels
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.rules import GradientDescent
from rankscope.studies.reproduce.experiment import Check, Experiment, Findings, descend
from rankscope.trace import Plateau, RankLevel

ROWS, RANK, SCALE, STEPS = 1000, 10, 1e-3, 10_000
RATE = 2e-4
"""On ½‖A − W H‖², which is 1e-4 on ‖A − W H‖²."""


def measure(say: Callable[[str], None]) -> Findings:
    """One descent."""
    X = torch.from_numpy(load_digits()[0][:ROWS])
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, RANK), (RANK, X.shape[1]))
    start = [SCALE * torch.rand(shape, generator=generator, dtype=X.dtype) for shape in shapes]
    known = levels(RowBlocks.of(X), RANK)
    descent = descend(X, start, GradientDescent(RATE), STEPS, levels=known)
    last = descent.history.iloc[-1]
    say(f"digits: {STEPS} steps in {last['seconds']:.0f} s")
    ramp = float(last["effective_rank"])
    early = [plateau for plateau in descent.plateaus if plateau.level < 0.9 * ramp]
    first = early[0] if early else Plateau(-1, -1, float("nan"), float("nan"))
    checks = [
        *(Check.near(f"effective rank of the best rank-{k} approximation", rank, known[k - 1].effective_rank, 0.005)
          for k, rank in ((1, 1.0), (2, 1.65), (3, 2.37), (4, 3.13))),
        Check("plateaus before the ramp has ended", "1", len(early), 1, 1),
        Check.near("its level", 1.0, first.level, 0.01),
        Check.near("its relative error", 0.299, first.relative_error, 0.01),
        Check.near("its first step", 330, first.start, 0.15),
        Check.near("its last step", 1480, first.end, 0.15),
        Check.near("effective rank at the end of the ramp", 6.6, ramp, 0.03),
    ]  # fmt: skip
    return Findings(checks, {"projected gradient": descent})


def figure(histories: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Figure:
    """The staircase."""
    drawn, ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    ((name, history),) = histories.items()
    found = [Plateau(**plateau) for plateau in facts[name]["plateaus"]]
    plots.staircase(history, found, levels=[RankLevel(**level) for level in facts[name]["levels"]][:4], ax=ax)
    return drawn


EXPERIMENT = Experiment(
    title="D. Digits: one early plateau, at the mean image, then a ramp",
    source="scikit-learn's load_digits; this project's acceptance experiment",
    settings={"rows": ROWS, "rank": RANK, "init": f"{SCALE:g}·U(0, 1)", "learning_rate": RATE, "steps": STEPS},
    measure=measure,
    figure=figure,
)
