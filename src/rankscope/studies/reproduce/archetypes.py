"""What changes at a jump of the effective rank: the archetypes, rows of H and of W2 H, before and after it.

Deep NMF of MNIST by Adam at rate 1e-2 from factors uniform on [0, 1]. After an overshoot of some thousand epochs the
effective rank climbs in jumps with slow stretches between them. Of every jump: the row that turned most (by its angle),
how like another row it was before and after, and how rough; roughness is ‖Laplacian‖/‖row‖ of the picture.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import laplace
from scipy.signal import find_peaks
from torch import Tensor

from rankscope import plots
from rankscope.nmf.chain import Chain
from rankscope.nmf.rules import JointRule
from rankscope.runs import Run
from rankscope.studies.reproduce.experiment import Check, Descent, descend

EVERY, WINDOW, PROMINENCE = 50, 5, 0.25
"""Epochs between two looks at the slope; looks that it is smoothed over; of the steepest, what a jump stands out by."""
COLUMNS = ["jump", "before", "after", "factor", "row", "turned", "likeness_before", "likeness_after", "rough_before",
           "rough_after", "digit_before", "digit_after"]  # fmt: skip


class Archetypes(NamedTuple):
    """How many images, which (r₁, r₂), for how many epochs, and how many seeds."""

    images: int
    sizes: tuple[int, int]
    epochs: int
    seeds: int


class Jump(NamedTuple):
    """A steep stretch of the effective rank between two slow ones, in epochs."""

    before: int
    steepest: int
    after: int


def climb(A: Tensor, size: Archetypes, rule: JointRule[Any], seed: int) -> Descent:
    """The descent, a chain kept every 50 epochs."""
    generator = torch.Generator().manual_seed(seed)
    start = [torch.rand(shape, generator=generator) for shape in pairwise((len(A), *size.sizes, A.shape[1]))]
    return descend(A, start, rule, size.epochs, per_e_fold=300, keep=lambda step: step % EVERY == 0)


def jumps(history: pd.DataFrame) -> list[Jump]:
    """The jumps after the overshoot, in order."""
    steps, ranks = _evenly(history)
    trough = _trough(ranks)
    if trough > len(ranks) - 2 * WINDOW:
        return []
    slope = np.convolve(np.gradient(ranks[trough:], steps[trough:]), np.ones(WINDOW) / WINDOW, mode="same")
    peaks, _ = find_peaks(slope, prominence=PROMINENCE * slope.max())
    found = []
    for i, peak in enumerate(peaks):
        left = peaks[i - 1] if i else 0
        right = peaks[i + 1] if i + 1 < len(peaks) else len(slope)
        calm = np.flatnonzero(slope[peak:right] < 0.05 * slope[peak])
        before = left + int(np.argmin(slope[left : peak + 1]))
        after = peak + (int(calm[0]) if len(calm) else int(np.argmin(slope[peak:right])))
        found.append(Jump(*(int(steps[trough + place]) for place in (before, peak, after))))
    return found


def climb_begins(history: pd.DataFrame) -> float:
    """The epoch of the trough between the overshoot and the climb."""
    steps, ranks = _evenly(history)
    return float(steps[_trough(ranks)])


def _evenly(history: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    steps = np.arange(EVERY, int(history["step"].iloc[-1]) + 1, EVERY)
    return steps, np.interp(steps, history["step"], history["effective_rank"])


def _trough(ranks: NDArray[np.float64]) -> int:
    """The place of the lowest rank after the first peak; 0 where there is none."""
    peaks, _ = find_peaks(ranks, prominence=0.02 * ranks.max())
    return int(peaks[0] + np.argmin(ranks[peaks[0] :])) if len(peaks) else 0


def changes(descent: Descent, images: Tensor, labels: NDArray[np.int64]) -> pd.DataFrame:
    """For every jump and every row of H and W2 H: how far it turned, how like another row, how rough, what it shows."""
    means = np.stack([images[labels == digit].mean(0).numpy() for digit in range(10) if (labels == digit).any()])
    rows = []
    for number, jump in enumerate(jumps(descent.history), start=1):
        pairs = zip(*(_archetypes(descent.kept[step]).items() for step in (jump.before, jump.after)), strict=True)
        for (name, before), (_, after) in pairs:
            turned = 1 - (_unit(before) * _unit(after)).sum(1)
            for row in range(len(before)):
                rows.append(
                    {
                        "jump": number,
                        "before": jump.before,
                        "after": jump.after,
                        "factor": name,
                        "row": row + 1,
                        "turned": float(turned[row]),
                        "likeness_before": _likeness(before, row),
                        "likeness_after": _likeness(after, row),
                        "rough_before": _roughness(before[row]),
                        "rough_after": _roughness(after[row]),
                        "digit_before": int((_unit(means) @ _unit(before[[row]]).T).argmax()),
                        "digit_after": int((_unit(means) @ _unit(after[[row]]).T).argmax()),
                    }
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def most_turned(table: pd.DataFrame, factor: str = "H") -> pd.DataFrame:
    """Of every jump the row of a factor that turned most."""
    part = table[table["factor"] == factor]
    return part.loc[part.groupby(["seed", "jump"])["turned"].idxmax()]


def checks(table: pd.DataFrame, seeds: int) -> list[Check]:
    """The brief's account of what happens at a jump."""
    if table.empty:
        return [Check("jumps of the effective rank", "2 a fit", 0.0, low=1.0)]
    turned, H = most_turned(table), table[table["factor"] == "H"].groupby(["seed", "jump"])
    alike = turned["likeness_before"].to_numpy() >= H["likeness_before"].max().to_numpy() - 1e-9
    rough = turned["rough_before"].to_numpy() >= H["rough_before"].max().to_numpy() - 1e-9
    count = int(table.loc[table["factor"] == "H", "row"].max())
    share = "jumps: share in which the row of H that turned most"
    alone = H["turned"].max() > 2 * H["turned"].median()
    return [
        Check("jumps of the effective rank, a fit", "2", len(turned) / seeds, 1, 3),
        Check("jumps: share in which one row of H turned twice as far as half of them", "> 1/2",
              float(alone.mean()), 0.5),
        Check(f"{share} was one of the two most alike, or the roughest", f"all; {3 / count:.2g} by chance",
              float((alike | rough).mean()), 0.8),
        Check(f"{share} is less like another after it", "> 1/2",
              float((turned["likeness_after"] < turned["likeness_before"]).mean()), 0.5),
        Check(f"{share} is smoother after it", "> 1/2",
              float((turned["rough_after"] < turned["rough_before"]).mean()), 0.5),
    ]  # fmt: skip


def stages(descent: Descent) -> dict[str, Tensor]:
    """The archetypes before and after every jump and at the end, for the figure."""
    found = jumps(descent.history)
    steps = sorted({step for jump in found for step in (jump.before, jump.after)} | {max(descent.kept)})
    return {
        f"{name}/{step:06d}": torch.as_tensor(rows)
        for step in steps
        for name, rows in _archetypes(descent.kept[step]).items()
    }


def _archetypes(chain: Chain) -> dict[str, NDArray[np.float64]]:
    return {"H": chain.last.double().numpy(), "W2 H": chain.dictionary.double().numpy()}


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _likeness(rows: NDArray[np.float64], row: int) -> float:
    """The largest cosine with another row."""
    cosines = _unit(rows) @ _unit(rows[[row]])[0]
    return float(np.delete(cosines, row).max(initial=0.0))


def _roughness(row: NDArray[np.float64]) -> float:
    side = int(len(row) ** 0.5)
    size = np.linalg.norm(row)
    return float(np.linalg.norm(laplace(row.reshape(side, side))) / size) if size > 0 else 0.0


def figure(folder: Run) -> Figure:
    """The staircase, jumps shaded; beneath it the rows of H and of W2 H at every stage, framed what turned most."""
    table, arrays = pd.read_csv(folder.path / "archetypes.csv"), folder.arrays("arrays")
    metrics = folder.metrics()
    history = metrics[metrics["fit"] == "adam, seed 0"]
    table = table[table["seed"] == 0]
    steps = sorted({int(key.split("/")[1]) for key in arrays})
    counts = {name: len(arrays[f"{name}/{steps[0]:06d}"]) for name in ("H", "W2 H")}
    tall = 7.16 / (sum(counts.values()) + 2) * len(steps) + 0.3
    drawn = plt.figure(figsize=(7.16, 2.2 + tall), layout="constrained")
    top, bottom = np.ravel(drawn.subfigures(2, 1, height_ratios=(2.2, tall), squeeze=False))
    _draw_staircase(top.subplots(), history, table, steps)
    blocks = np.ravel(bottom.subfigures(1, 2, width_ratios=[count + 0.5 for count in counts.values()], squeeze=False))
    for block, (name, count) in zip(blocks, counts.items(), strict=True):
        block.suptitle(f"rows of {name}", fontsize=8)
        axes = block.subplots(len(steps), count, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
        part = most_turned(table, name)[["after", "row"]] if len(table) else table[["after", "row"]]
        framed = {(int(after), int(row)) for after, row in part.to_numpy()}
        for line, step in zip(axes, steps, strict=True):
            plots.signatures(arrays[f"{name}/{step:06d}"], (28, 28), axes=line)
            _frame(line, [k for k in range(1, count + 1) if (step, k) in framed])
            if name == "H":
                line[0].set_ylabel(f"{step:,}", fontsize=7, rotation=0, ha="right", va="center")
    return drawn


def _frame(line: NDArray[Any], rows: list[int]) -> None:
    for k, ax in enumerate(line, start=1):
        ax.set_title("")
        for spine in ax.spines.values():
            spine.set(visible=k in rows, color="#D55E00", linewidth=1.6)


def _draw_staircase(ax: Axes, history: pd.DataFrame, table: pd.DataFrame, steps: list[int]) -> None:
    ax.plot(history["step"], history["effective_rank"], color="#0072B2", lw=1.2)
    spans = table.drop_duplicates("jump")
    for shade, (before, after) in enumerate(spans[["before", "after"]].to_numpy()):
        ax.axvspan(before, after, color="#000000", alpha=0.07 + 0.07 * (shade % 2), lw=0)
    for step in steps:
        ax.axvline(step, color="#8C8C8C", lw=0.6, ls=(0, (4, 3)))
    last = float(history["step"].iloc[-1])
    ax.set_xlim(0, min(last, 1.25 * float(spans["after"].max())) if len(spans) else last)
    plots.dress(ax, x="epoch", y="effective rank")
