"""What the races share: the machine in one line, MNIST, starts, alternation, and a claim with its measured ratios.

A ratio is taken within one run of one process: both sides in turn, the order changing from round to round, so that what
drifts on the machine favours neither. The median counts, the others are shown.
"""

import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info

from rankscope.datasets import load_mnist

Array = np.ndarray


@dataclass(frozen=True)
class Claim:
    """A ratio that must be at most ``target``, as it was in each round."""

    name: str
    target: float
    ratios: list[float]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        return self.median <= self.target

    def line(self) -> str:
        spread = f"{min(self.ratios):.3f}–{max(self.ratios):.3f}"
        mark = "met" if self.met else "missed"
        return f"{self.name}: {self.median:.3f} (target ≤ {self.target:.3f}, {spread}) {mark}. {self.note}"


def machine() -> str:
    """Processor, threads, versions and BLAS kernels."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn", "numba"))
    libraries = {f"{lib['internal_api']} {lib.get('architecture', '')}".strip() for lib in threadpool_info()}
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {torch.get_num_threads()} threads; {versions}; {', '.join(sorted(libraries))}"


def mnist(rows: int = 60_000) -> Array:
    """The first rows of MNIST, float32 in [0, 1] (RANKSCOPE_DATA or the cache)."""
    return load_mnist()[0][:rows]


def random_start(X: Array, r: int, seed: int) -> tuple[Array, Array]:
    """W (m×r) and H (r×n) uniform, of the size of X."""
    rng = np.random.default_rng(seed)
    scale = 2 * np.sqrt(X.mean() / r)
    return tuple((scale * rng.random(shape)).astype(X.dtype) for shape in ((len(X), r), (r, X.shape[1])))


def squared_error(X: Array, W: Array, H: Array) -> float:
    """‖X − W H‖²/‖X‖² by the residual itself, in float64, some rows at a time."""
    error = norm = 0.0
    for i in range(0, len(X), 4000):
        rows = X[i : i + 4000].astype(np.float64)
        error += float(np.square(rows - W[i : i + 4000].astype(np.float64) @ H.astype(np.float64)).sum())
        norm += float(np.square(rows).sum())
    return error / norm


PAUSE = 0.3
"""Seconds before each side: the idle threads of the other one's libraries go on spinning on the cores for 0.2."""


def seconds(work: Callable[[], object], *, pause: float = 0.0) -> float:
    """By the clock, after a pause."""
    time.sleep(pause)
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def ratios(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int,
    repeats: int = 1,
    pause: float = PAUSE,
    before: int = 0,
) -> list[float]:
    """Seconds of ours over seconds of theirs, in alternating order; the fastest of ``repeats`` each round.

    What is timed follows as much of the same work as ``before`` says, as one iteration of a fit or a step of a training
    follows another: after a pause, or the other side, caches are others', and all that is called is slow for a while.
    """
    ours(), theirs()
    result = []
    for turn in range(rounds):
        sides = (ours, theirs) if turn % 2 else (theirs, ours)
        best = {side: float("inf") for side in sides}
        for _ in range(repeats):
            for side in sides:
                for k in range(before):
                    seconds(side, pause=0 if k else pause)
                best[side] = min(best[side], seconds(side, pause=0 if before else pause))
        result.append(best[ours] / best[theirs])
    return result


def report(claims: list[Claim]) -> None:
    """The machine, then a line for each claim."""
    print(machine())
    for claim in claims:
        print(claim.line())


def quiet() -> None:
    """Races end before convergence; nobody needs to be told."""
    warnings.simplefilter("ignore")
