"""B: depth strengthens the bias towards low rank, in matrix completion.

Of a 100×100 matrix of rank 5, ‖A‖_F = 100, 2,000 or 5,000 entries are observed, and a product of 2, 3 or 4 square
matrices is fitted to their mean squared error from a small start (Gaussian, std init^{1/N}/√n) until that is 1e-6.
Nothing but the start and the steps favours low rank; deeper products end at a lower effective rank and recover what
was not observed. Depth 2 does not from 2,000 entries. Adam, which gives every entry a step size of its own, weakens
the bias.

The optimizer is the one of the paper's code: gradient steps at the rate η/(√v̂ + ε), v the running mean of the
squared norm of the whole gradient, bias-corrected, η = 1e-3, α = 0.99, ε = 1e-4. Our objective is n_obs/2 times the
mean squared error, and so is its gradient; ε is scaled alike, which makes the steps the same.

Reference: Arora, Cohen, Hu & Luo 2019, NeurIPS, arXiv:1905.13655; code at
github.com/roosephu/deep_matrix_factorization.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rankscope import plots
from rankscope.nmf.chain import Chain
from rankscope.nmf.rules import Adam, JointRule, SharedScalar
from rankscope.studies.reproduce.experiment import Check, Descent, Experiment, Findings, descend

SIZE, RANK, INIT, RATE, TRAIN_MSE = 100, 5, 1e-3, 1e-3, 1e-6
MOST_STEPS, SEED = 100_000, 0


class Case(NamedTuple):
    """One descent, what was published of it (test MSE, effective rank), and the bands (both upper ends inclusive)."""

    depth: int
    observed: int
    adam: bool
    published: str
    test: tuple[float, float]
    rank: tuple[float, float]

    @property
    def name(self) -> str:
        """Of the descent."""
        return f"depth {self.depth}, {self.observed:,} entries" + (", Adam" if self.adam else "")


ANY = (0.0, float("inf"))
CASES = (
    Case(2, 2000, False, "0.105 / 10.1", (1e-3, float("inf")), (6, 11)),
    Case(3, 2000, False, "4e-5 / 5.0", (0, 2e-4), (0, 5.3)),
    Case(4, 2000, False, "as depth 3", (0, 2e-4), (0, 5.3)),
    Case(2, 2000, True, "no figure", ANY, (15, float("inf"))),
    Case(2, 5000, False, "9e-5 / 5.35", (0, 2e-4), (4.7, 5.6)),
    Case(3, 5000, False, "4e-6 / 4.97", (0, 2e-5), (4.7, 5.3)),
    Case(4, 5000, False, "as depth 3", (0, 2e-5), (4.7, 5.3)),
)


def measure(say: Callable[[str], None]) -> Findings:
    """Every case, on one truth; of the observed entries 2,000 are among the 5,000."""
    generator = torch.Generator().manual_seed(SEED)
    A = torch.randn(SIZE, RANK, generator=generator) @ torch.randn(RANK, SIZE, generator=generator)
    A *= SIZE / torch.linalg.matrix_norm(A)
    order = torch.randperm(SIZE * SIZE, generator=generator)
    checks, descents = [], {}
    for case in CASES:
        descent = descents[case.name] = _complete(A, order[: case.observed], case)
        last = descent.history.iloc[-1]
        checks += _checks(case, last)
        say(f"completion: {case.name}: {last['step']:.0f} steps in {last['seconds']:.0f} s")
    return Findings(checks, descents)


def _complete(A: Tensor, entries: Tensor, case: Case) -> Descent:
    observed = torch.zeros(A.numel(), dtype=torch.bool)
    observed[entries] = True
    observed = observed.view_as(A)
    generator = torch.Generator().manual_seed(SEED + 1)
    std = INIT ** (1 / case.depth) / SIZE**0.5
    start = [std * torch.randn(SIZE, SIZE, generator=generator) for _ in range(case.depth)]
    share = case.observed / float(A[observed].square().sum())  # mean squared error → relative error
    return descend(
        A,
        start,
        _rule(case),
        MOST_STEPS,
        observed=observed,
        readings={"test_error": lambda chain: float((A - Chain.product(chain)).square().mean())},
        until=TRAIN_MSE * share,
        per_e_fold=300,  # The error falls fast at the end, and is looked at where it is recorded.
    )


def _rule(case: Case) -> JointRule[Any]:
    scale = case.observed / 2  # our objective over the mean squared error
    if case.adam:
        return Adam(RATE, epsilon=1e-8 * scale, nonnegative=False)
    return SharedScalar(RATE, alpha=0.99, epsilon=1e-4 * scale, nonnegative=False)


def _checks(case: Case, last: pd.Series) -> list[Check]:
    train = last["absolute_error"] ** 2 / case.observed
    checks = [Check(f"{case.name}: train MSE", f"{TRAIN_MSE:g}, at most", float(train), high=1.001 * TRAIN_MSE)]
    if case.test != ANY:
        checks.append(_banded(f"{case.name}: test MSE", case.published.split(" / ")[0], last["test_error"], case.test))
    rank = case.published.split(" / ")[-1]
    checks.append(_banded(f"{case.name}: effective rank", rank, last["effective_rank"], case.rank))
    return checks


def _banded(quantity: str, published: str, measured: float, band: tuple[float, float]) -> Check:
    low, high = band
    text = f"≤ {high:g}" if low == 0 else f"≥ {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
    return Check(quantity, f"{published}; {text}", float(measured), low, high)


def figure(histories: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> Figure:
    """Test error and effective rank against the step, 2,000 entries on the left and 5,000 on the right."""
    counts = sorted({case.observed for case in CASES})
    drawn, axes = plt.subplots(2, len(counts), figsize=(7.16, 4.8), layout="constrained", sharex=True, sharey="row")
    colours = {2: "#E69F00", 3: "#0072B2", 4: "#009E73"}
    for case in CASES:
        history, column = histories[case.name].iloc[1:], counts.index(case.observed)
        look = {"color": "#CC79A7" if case.adam else colours[case.depth], "lw": 1.1}
        label = f"depth {case.depth}" + (", Adam" if case.adam else "")
        for ax, quantity in zip(axes[:, column], ("test_error", "effective_rank"), strict=True):
            ax.plot(history["step"] + 1, history[quantity], label=label, ls="--" if case.adam else "-", **look)
    for column, count in enumerate(counts):
        top, bottom = axes[:, column]
        top.set(xscale="log", yscale="log", xlim=(10, None))
        bottom.set(ylim=(0, 30))
        bottom.axhline(RANK, color="#8C8C8C", lw=0.7, ls=(0, (5, 3)), zorder=0)
        plots.dress(top, title=f"{count:,} of 10,000 entries observed", y=None if column else "test MSE")
        plots.dress(bottom, x="step + 1", y=None if column else "effective rank")
        top.legend(fontsize=7, frameon=False, loc="lower left")
    return drawn


EXPERIMENT = Experiment(
    title="B. Matrix completion: deeper products end at a lower rank; Adam weakens the bias",
    source="Arora, Cohen, Hu & Luo 2019, arXiv:1905.13655",
    settings={
        "size": SIZE,
        "rank": RANK,
        "init": INIT,
        "optimizer": {"learning_rate": RATE, "alpha": 0.99, "epsilon": 1e-4},
        "train_mse": TRAIN_MSE,
        "cases": [case.name for case in CASES],
        "seed": SEED,
    },
    measure=measure,
    figure=figure,
)
