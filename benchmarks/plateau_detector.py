"""The plateau detector on 1,000 traces whose plateaus are known, beside patience and offline change points.

    python benchmarks/plateau_detector.py --traces 1000 --seed 31415 --figure docs/figures/plateau-detection.png

Every method gets the settings that serve it best on traces of another seed (--tune), and is then run once on this one.
Patience is Keras': a row counts as an improvement where the error falls by a fraction `min_delta` of its best value; to
let it find several plateaus, it starts anew at the next improvement after it has stopped. ruptures sees each trace
whole, on an even grid of ln(step + 1), and its segments longer than 0.35 count; once as they are, once only where our
bounds on the slopes hold.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from rankscope.studies.detection import (
    FAMILIES,
    LONG,
    Call,
    Detect,
    Score,
    Trace,
    clean,
    online,
    score,
    traces,
    with_noise,
)
from rankscope.tables import table
from rankscope.trace.slopes import theil_sen

GRID = 0.01  # spacing of ruptures' rows in ln(step + 1)


def patience(trace: Trace, *, rows: int, min_delta: float) -> list[Call]:
    """Keras' EarlyStopping on the error, started anew at every improvement that follows a stop."""
    best, since, called_at, calls = math.inf, 0, None, []
    last = len(trace.steps) - 1
    for i, error in enumerate([*trace.error.tolist(), -math.inf]):
        improved = error < best * (1 - min_delta)
        if improved:
            if called_at is not None:
                calls.append(_call(trace, since, min(i, last), called_at))
            best, since, called_at = error, i, None
        elif i - since >= rows and called_at is None and trace.error[since] < 0.99:  # something was learned
            called_at = int(trace.steps[i])
    return calls


def change_points(trace: Trace, *, penalty: float, flat: bool) -> list[Call]:
    """ruptures: segments of constant ln(rank) and log-odds of the error, offline; with `flat` only those that are."""
    x = np.log1p(trace.steps)
    grid = np.arange(max(x[0], 3.0), x[-1], GRID)
    odds = np.log(np.maximum(trace.error, 1e-6) / (np.maximum(1 - trace.error, 0) + 0.05))
    signal = np.stack([np.interp(grid, x, values) for values in (np.log(trace.rank), odds)], axis=1)
    if len(grid) < 10:
        return []
    ends = import_module("ruptures").KernelCPD(kernel="linear", min_size=5).fit(signal).predict(pen=penalty)
    calls = []
    for begin, end in itertools.pairwise([0, *ends]):
        segment = slice(begin, end)
        length = (end - begin) * GRID
        learned = np.median(np.interp(grid[segment], x, trace.error)) < 0.99
        if length < LONG or not learned:
            continue
        if flat and np.any(np.abs(theil_sen(grid[segment][::2], signal[segment][::2].T).values) >= [0.15, 0.2]):
            continue
        level = math.exp(np.median(signal[segment, 0]))
        calls.append(Call(round(math.expm1(grid[begin])), round(math.expm1(grid[end - 1])), level))
    return calls


def measure(sample: Sequence[Trace], detect: Detect) -> list[Score]:
    """The score on every trace."""
    return [score(trace, detect(trace)) for trace in sample]


def summary(name: str, scores: Sequence[Score]) -> dict[str, object]:
    """One line of a table."""
    wanted, found = sum(len(s.wanted) for s in scores), sum(len(s.found) for s in scores)
    false = sum(s.false > 0 for s in scores)
    delays = sorted(delay for s in scores for delay in s.delays)
    at = [f"{delays[int(q * (len(delays) - 1))]:.2f}" for q in (0.5, 0.9)] if delays else ["–", "–"]
    return {
        "": name,
        "traces": len(scores),
        "plateaus": wanted,
        "found": f"{found} ({100 * found / wanted:.1f}%)" if wanted else "–",
        "missed": wanted - found,
        "traces with a false call": f"{false} ({100 * false / len(scores):.1f}%)",
        "delay in ln(step), median": at[0],
        "90%": at[1],
    }


def by_length(scores: Sequence[Score]) -> list[dict[str, object]]:
    """How many of the true plateaus of each length in ln(step + 1) were found."""
    lines = []
    for low, high in ((LONG, 0.4), (0.4, 0.5), (0.5, 1.0), (1.0, math.inf)):
        wanted = sum(low < length <= high for s in scores for length in s.wanted)
        found = sum(low < length <= high for s in scores for length in s.found)
        lines.append(
            {"length": f"{low:g}–{high:g}", "plateaus": wanted, "found": f"{found} ({found / max(wanted, 1):.1%})"}
        )
    return lines


def tuned(name: str, settings: Sequence[dict], detect: Callable[..., list[Call]], sample: Sequence[Trace]) -> Detect:
    """The settings with the most plateaus found less traces with a false call, as fractions."""

    def worth(scores: Sequence[Score]) -> float:
        found = sum(len(s.found) for s in scores) / sum(len(s.wanted) for s in scores)
        return found - sum(s.false > 0 for s in scores) / len(scores)

    best = max(settings, key=lambda setting: worth(measure(sample, partial(detect, **setting))))
    print(f"{name}: {', '.join(f'{key} = {value}' for key, value in best.items())}")
    return partial(detect, **best)


def methods(tune: Sequence[Trace]) -> dict[str, Detect]:
    """Ours as it is, the others tuned."""
    grid = [{"rows": r, "min_delta": d} for r in (10, 30, 100, 300, 1000) for d in (0.0, 1e-3, 1e-2, 5e-2)]
    out: dict[str, Detect] = {
        "rankscope.trace.PlateauDetector": online,
        "patience on the error (Keras)": tuned("patience", grid, patience, tune),
    }
    if find_spec("ruptures") is None:
        print("ruptures is not installed and left out: pip install --group bench")
        return out
    penalties = [0.03, 0.1, 0.3, 1.0, 3.0]
    for name, flat in (("ruptures, offline", False), ("ruptures with our slopes, offline", True)):
        out[name] = tuned(name, [{"penalty": p, "flat": flat} for p in penalties], change_points, tune)
    return out


def under_noise(seed: int, n: int) -> list[dict[str, object]]:
    """The noisy family's stairs at fixed noise, for where the detector's limits are."""
    lines = []
    for scale in (0.01, 0.03, 0.05, 0.1):
        children = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(n)]
        sample = [with_noise(g, clean(g), scale) for g in children]
        lines.append(summary(f"{100 * scale:g}% noise", measure(sample, online)))
    return lines


def figure(sample: Sequence[Trace], path: Path) -> None:
    """The first trace of each family, with the true plateaus above and the found ones shaded."""
    blue, orange, green = "#0072B2", "#D55E00", "#009E73"
    shown = [next(t for t in sample if t.family == family and len(t.truths) >= least) for family, least in _SHOWN]
    page, axes = plt.subplots(2, 4, figsize=(7.16, 3.9), layout="constrained")
    for ax, trace in zip(axes.flat, shown, strict=False):
        right = ax.twinx()
        thin = np.unique(np.geomspace(1, len(trace.steps), 3000).astype(int)) - 1
        ax.plot(trace.steps[thin] + 1, trace.rank[thin], color=blue, linewidth=0.9)
        right.plot(trace.steps[thin] + 1, trace.error[thin], color=orange, linewidth=0.8, linestyle=(0, (4, 1.5)))
        right.set_yscale("log")
        right.set_ylim(max(0.6 * np.quantile(trace.error, 0.01), 1e-4), 2)
        ax.set_xscale("log")
        ax.set_xlim(30, trace.steps[-1] + 1)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.14 * (high - low))
        for truth in trace.truths:
            color = "#000000" if truth.length > LONG else "#AAAAAA"
            ax.plot([truth.start + 1, truth.end + 1], [0.95, 0.95], transform=ax.get_xaxis_transform(), color=color,
                    linewidth=2.5, solid_capstyle="butt")  # fmt: skip
        for call in online(trace):
            ax.axvspan(call.start + 1, call.end + 1, color=green, alpha=0.22, linewidth=0, zorder=0)
            if call.called_at is not None:
                ax.axvline(call.called_at + 1, color=green, linewidth=0.8, linestyle=":")
        ax.set_title(trace.family, fontsize=8)
        for axis, color in ((ax, blue), (right, orange)):
            axis.tick_params(which="both", labelsize=6, width=0.5, length=2)
            axis.tick_params(axis="y", which="both", colors=color)
            axis.spines["top"].set_visible(False)
            for spine in axis.spines.values():
                spine.set_linewidth(0.5)
        right.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes[1]:
        ax.set_xlabel("step + 1", fontsize=7)
    axes[0, 0].set_ylabel("effective rank", fontsize=7, color=blue)
    axes[1, 0].set_ylabel("effective rank", fontsize=7, color=blue)
    key = axes.flat[-1]
    key.set_axis_off()
    key.legend(
        handles=[
            Line2D([], [], color=blue, linewidth=0.9, label="effective rank"),
            Line2D([], [], color=orange, linewidth=0.8, linestyle=(0, (4, 1.5)), label="relative error"),
            Line2D([], [], color="#000000", linewidth=2.5, label=f"true plateau, > {LONG}"),
            Line2D([], [], color="#AAAAAA", linewidth=2.5, label="true plateau, shorter"),
            Patch(color=green, alpha=0.22, linewidth=0, label="found"),
            Line2D([], [], color=green, linewidth=0.8, linestyle=":", label="said here"),
        ],
        fontsize=7,
        frameon=False,
        loc="center",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, dpi=200)


_SHOWN = (("clean", 3), ("noisy", 3), ("Adam overshoot", 1), ("locked", 1), ("slow drift", 0), ("no plateau", 0),
          ("three, one short", 3))  # fmt: skip


def _call(trace: Trace, begin: int, end: int, called_at: int) -> Call:
    level = float(np.median(trace.rank[begin : end + 1]))
    return Call(int(trace.steps[begin]), int(trace.steps[end]), level, called_at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=31415, help="of the traces that are reported")
    parser.add_argument("--tune", type=int, default=0, help="seed of the traces on which the peers are tuned")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.seed == arguments.tune:
        parser.error("--seed must differ from --tune: what was tuned on is not evidence")
    peers = methods(traces(min(140, arguments.traces), arguments.tune))
    sample = traces(arguments.traces, arguments.seed)
    scores = {name: measure(sample, detect) for name, detect in peers.items()}
    print(f"\n{len(sample)} traces, seed {arguments.seed}\n")
    print(table([summary(name, found) for name, found in scores.items()]))
    ours = scores["rankscope.trace.PlateauDetector"]
    print("\nPlateauDetector by family\n")
    families = [
        summary(family, [s for trace, s in zip(sample, ours, strict=True) if trace.family == family])
        for family in FAMILIES
    ]
    print(table(families))
    print("\nPlateauDetector by length\n")
    print(table(by_length(ours)))
    print(f"\nmatched plateaus of the wrong kind: {sum(s.wrong_kind for s in ours)}\n\nPlateauDetector under noise\n")
    print(table(under_noise(arguments.seed, max(7, arguments.traces // 7))))
    if arguments.figure:
        figure(sample, arguments.figure)


if __name__ == "__main__":
    main()
