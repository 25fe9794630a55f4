"""C: rank falls while every norm grows.

Of a 2×2 matrix W₁₂ = W₂₁ = 1 and W₂₂ = 0 are observed. Gradient descent on half the squared error of the three from a
small start of positive determinant: W₁₁ must grow without bound as the loss goes to zero, |W₁₁| → 1/√(2·loss), and
the product tends to rank 1, so what is minimized is the rank and no norm.

Reference: Razin & Cohen 2020, NeurIPS, arXiv:2005.06398.
"""

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from rankscope import plots
from rankscope.nmf.rules import GradientDescent
from rankscope.studies.reproduce.experiment import Check, Experiment, Findings, descend

DEPTH, ALPHA, RATE, LOSS = 3, 0.1, 1e-2, 1e-3
MOST_STEPS = 100_000


def measure(say: Callable[[str], None]) -> Findings:
    """One descent, to the loss at which the paper's W₁₁ is 22.4."""
    A = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    observed = torch.tensor([[False, True], [True, True]])
    descent = descend(
        A,
        [ALPHA * torch.eye(2, dtype=torch.float64)] * DEPTH,
        GradientDescent(RATE, nonnegative=False),
        MOST_STEPS,
        observed=observed,
        readings={"w11": lambda chain: float(chain.product()[0, 0])},
        until=LOSS,  # The loss is the relative error: half of the squared error, and ‖A‖² = 2.
    )
    last = descent.history.iloc[-1]
    loss = float(last["relative_error"])
    say(f"two-by-two: loss {loss:.3g} after {last['step']:.0f} steps in {last['seconds']:.0f} s")
    checks = [
        Check("loss reached", f"at most {LOSS:g}", loss, high=LOSS),
        Check.near("|W11|, of 1/√(2·loss)", (2 * loss) ** -0.5, abs(float(last["w11"])), 0.01),
        Check("effective rank", "1, below 1.01", float(last["effective_rank"]), 1.0, 1.01),
    ]
    return Findings(checks, {f"depth {DEPTH}": descent})


def figure(histories: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Figure:
    """|W₁₁| against the loss with its law, and the effective rank."""
    drawn, (left, right) = plt.subplots(1, 2, figsize=(7.16, 2.8), layout="constrained")
    (history,) = histories.values()
    loss = history["relative_error"]
    left.plot(loss, history["w11"].abs(), color="#0072B2", lw=1.1, label="|W₁₁|, gradient descent")
    law = np.geomspace(loss.min(), 0.2, 50)
    left.plot(law, (2 * law) ** -0.5, color="#333333", lw=0.8, ls=(0, (4, 2)), label="1/√(2·loss)")
    left.set(xscale="log", yscale="log")
    left.invert_xaxis()
    plots.dress(left, x="loss (training goes to the right)", y="|W₁₁|")
    left.legend(fontsize=7, frameon=False)
    right.plot(loss, history["effective_rank"] - 1, color="#0072B2", lw=1.1)
    right.set(xscale="log", yscale="log")
    right.invert_xaxis()
    plots.dress(right, x="loss (training goes to the right)", y="effective rank − 1")
    return drawn


EXPERIMENT = Experiment(
    title="C. Two by two: the rank falls while every norm grows",
    source="Razin & Cohen 2020, arXiv:2005.06398",
    settings={"depth": DEPTH, "alpha": ALPHA, "learning_rate": RATE, "loss": LOSS},
    measure=measure,
    figure=figure,
)
