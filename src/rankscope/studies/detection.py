"""Traces whose plateaus are known, to measure a plateau detector on.

Seven families. Stairs: by gradient descent on a deep linear network (real dynamics) or logistic in x = ln(step + 1). A
plateau is true where something was learned, the last rise is 98% done and the next not yet 2% begun; it must be found
when it is longer than 0.35 in x, and may be when it is shorter. What is not within a true plateau is a false call.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rankscope.trace.levels import Plateau
from rankscope.trace.plateau import PlateauDetector

Array = NDArray[np.float64]
Generator = np.random.Generator

LONG = 0.35
"""Length in x from which a plateau must be found."""
MAX_ROWS = 30_000
_EDGE = math.log(49)  # in scales of a logistic rise: where it is 2% begun or 98% done


@dataclass(frozen=True)
class Truth:
    """A stretch of a trace that is a plateau, from step `start` to step `end`."""

    start: int
    end: int
    level: float
    kind: str = "transient"

    @property
    def length(self) -> float:
        """In x."""
        return math.log((self.end + 1) / (self.start + 1))


@dataclass(frozen=True)
class Trace:
    """What a fit would show (T): steps, ‖A − B‖²/‖A‖², the effective rank, and the fraction of locked entries."""

    family: str
    steps: NDArray[np.int64]
    error: Array
    rank: Array
    truths: tuple[Truth, ...]
    locked_fraction: float = 0.0


@dataclass(frozen=True)
class Call:
    """A stretch that a detector calls a plateau, and the step at which it did (None: afterwards)."""

    start: int
    end: int
    level: float
    called_at: int | None = None
    kind: str = "transient"


@dataclass(frozen=True)
class Score:
    """How the calls on one trace compare with its truth."""

    wanted: tuple[float, ...]
    """The lengths in x of the plateaus that must be found."""
    found: tuple[float, ...]
    """Those of them that were."""
    false: int
    delays: tuple[float, ...]
    """From the true start to the call, in x, of those found."""
    wrong_kind: int


Detect = Callable[[Trace], list[Call]]


def traces(n: int, seed: int) -> list[Trace]:
    """n traces, the families in turn."""
    makers = list(FAMILIES.items())
    out = []
    for i, child in enumerate(np.random.SeedSequence(seed).spawn(n)):
        family, make = makers[i % len(makers)]
        out.append(replace(make(np.random.default_rng(child)), family=family))
    return out


def online(trace: Trace, detector: PlateauDetector | None = None) -> list[Call]:
    """The calls of a PlateauDetector that sees one row at a time."""
    detector = detector or PlateauDetector()
    confirmed: list[Plateau] = []
    for step, error, rank in zip(trace.steps.tolist(), trace.error.tolist(), trace.rank.tolist(), strict=True):
        plateau = detector.update(step, error, rank, locked_fraction=trace.locked_fraction)
        if plateau is not None:
            confirmed.append(plateau)
    calls = []
    for plateau in detector.finish():
        # When it was first said: a plateau that resumed keeps the start of its first part.
        said = [early.end for early in confirmed if early.start >= plateau.start and early.end <= plateau.end]
        calls.append(Call(plateau.start, plateau.end, plateau.level, min(said, default=plateau.end), plateau.kind))
    return calls


def score(trace: Trace, calls: Sequence[Call]) -> Score:
    """Match calls and true plateaus one to one by their overlap, the largest first.

    They match where half of the shorter one is shared, in x, and the levels agree to 10%.
    """
    pairs = []
    for c, call in enumerate(calls):
        for t, truth in enumerate(trace.truths):
            shared = _x(min(call.end, truth.end)) - _x(max(call.start, truth.start))
            shorter = min(_x(call.end) - _x(call.start), truth.length)
            if shared >= 0.5 * shorter and shared > 0 and abs(math.log(call.level / truth.level)) <= 0.1:
                pairs.append((shared, c, t))
    matched: dict[int, int] = {}  # call -> truth
    for _, c, t in sorted(pairs, reverse=True):
        if c not in matched and t not in matched.values():
            matched[c] = t
    long = {t for t, truth in enumerate(trace.truths) if truth.length > LONG}
    found = {t: calls[c] for c, t in matched.items() if t in long}
    delays = [_x(call.called_at) - _x(trace.truths[t].start) for t, call in found.items() if call.called_at is not None]
    wrong = sum(calls[c].kind != trace.truths[t].kind for c, t in matched.items())
    lengths = [tuple(trace.truths[t].length for t in sorted(which)) for which in (long, found)]
    return Score(lengths[0], lengths[1], len(calls) - len(matched), tuple(delays), wrong)


def clean(g: Generator) -> Trace:
    """One to four stairs without noise."""
    return _deep_linear(g) if g.random() < 0.5 else _stairs(g, [g.uniform(0.15, 1.5) for _ in range(g.integers(1, 5))])


def noisy(g: Generator) -> Trace:
    """The same with 0.5–3% noise, correlated from row to row in half of them, and spikes in one row of 500."""
    return with_noise(g, clean(g), g.uniform(0.005, 0.03))


def overshoot(g: Generator) -> Trace:
    """Adam: rank and error swing past their final value and settle. The turning points are no plateaus."""
    begin, end = g.uniform(3.5, 5), g.uniform(9, 11.5)
    steps = _steps(begin, end)
    x = np.log1p(steps)
    amplitude, half_period = g.uniform(0.3, 0.8), g.uniform(0.5, 1.2)
    damping, level, error = g.uniform(0.8, 2.0), g.uniform(2, 12), 10 ** g.uniform(-2.5, -0.7)
    since = np.maximum(x - begin, 0.0)
    swing = np.exp(-damping * since)
    rank = level * np.exp(amplitude * g.choice([-1, 1]) * swing * np.cos(math.pi * since / half_period))
    errors = np.where(x < begin, 1.0, np.minimum(error * np.exp(math.log(0.9 / error) * swing), 0.9))
    # Settled where the swing is 2% of the level and the error within 4% of where it goes.
    settled = begin + max(math.log(amplitude / 0.02), math.log(math.log(0.9 / error) / 0.04)) / damping
    truths = _truths([(settled, _x(int(steps[-1])))], [level])
    trace = Trace("", steps, errors, rank, truths)
    return with_noise(g, trace, g.uniform(0, 0.01))


def locked(g: Generator) -> Trace:
    """Zeros that never move: some runs lock before anything was learned, others on a level, which is then locked."""
    fraction = g.uniform(0.1, 0.95)
    if g.random() < 0.4:
        steps = _steps(3.5, g.uniform(8, 10))
        stuck = np.full(len(steps), g.uniform(0.991, 0.9995))
        trace = Trace("", steps, stuck, np.full(len(steps), g.uniform(2, 20)), (), fraction)
    else:
        trace = _stairs(g, [g.uniform(0.8, 2.5)])
        truths = tuple(replace(truth, kind="locked") for truth in trace.truths)
        trace = replace(trace, truths=truths, locked_fraction=fraction)
    return with_noise(g, trace, g.uniform(0, 0.005))


def drift(g: Generator) -> Trace:
    """A slow power law in rank, error or both, at 0.2–0.8 and 0.3–1.0 per unit of x: no plateau."""
    steps = _steps(4, g.uniform(8, 11))
    steps = steps[steps >= math.exp(4)]
    x = np.log1p(steps) - math.log1p(steps[0])
    which, falling = g.integers(3), g.random() < 0.5
    rank_slope = g.uniform(0.2, 0.8) if which != 1 else 0.0
    error_slope = g.uniform(0.3, 1.0) if which != 0 else 0.0
    # So that a falling rank ends above 1.
    rank = g.uniform(1.2, 5) * np.exp(rank_slope * (x[-1] - x if falling else x))
    error = 0.8 * np.exp(-error_slope * x)
    error[0] = 1.0
    return with_noise(g, Trace("", steps, error, rank, ()), g.choice([0.0, 0.01]))


def ramp(g: Generator) -> Trace:
    """One smooth climb that is still going on at the end, logistic in x or linear in the step: no plateau."""
    if g.random() < 0.5:
        steps = _steps(4, g.uniform(8, 11))
        share = steps / steps[-1]
        rank, error = 1 + g.uniform(2, 20) * share, 1 - g.uniform(0.6, 0.95) * share
    else:
        scale, top = g.uniform(0.4, 1.0), g.uniform(3, 20)
        # Up to where ln(rank) still grows by 0.25 per unit of x: s (1 − s) (top − 1)/(rank · scale).
        grid = np.linspace(0.5, 0.999, 500)
        growth = grid * (1 - grid) * (top - 1) / ((1 + (top - 1) * grid) * scale)
        until = float(grid[growth >= 0.25][-1]) if np.any(growth >= 0.25) else 0.5
        middle = g.uniform(6.5, 8.5)
        steps = _steps(4, middle + scale * math.log(until / (1 - until)))
        s = 1 / (1 + np.exp(-(np.log1p(steps) - middle) / scale))
        rank, error = 1 + (top - 1) * s, 1 - g.uniform(0.6, 0.95) * s
    return with_noise(g, Trace("", steps, error, rank, ()), g.choice([0.0, 0.01]))


def short_between(g: Generator) -> Trace:
    """Three plateaus of which one is short, 0.1–0.3 in x; half of them with up to 1% noise."""
    gaps = [g.uniform(0.45, 1.2), g.uniform(0.45, 1.2), g.uniform(0.45, 1.2)]
    gaps[g.integers(3)] = g.uniform(0.1, 0.3)
    return with_noise(g, _stairs(g, gaps), g.choice([0.0, g.uniform(0, 0.01)]))


FAMILIES: dict[str, Callable[[Generator], Trace]] = {
    "clean": clean,
    "noisy": noisy,
    "Adam overshoot": overshoot,
    "locked": locked,
    "slow drift": drift,
    "no plateau": ramp,
    "three, one short": short_between,
}


def _stairs(g: Generator, lengths: Sequence[float]) -> Trace:
    """Logistic rises in x with true plateaus of these lengths between them, the last one to the end."""
    scales = g.uniform(0.01, 0.06, size=len(lengths))
    at, spans = g.uniform(4.2, 6.5), []
    places = [at]
    for i, length in enumerate(lengths):
        start = places[i] + _EDGE * scales[i]
        spans.append((start, start + length))
        if i + 1 < len(lengths):
            places.append(start + length + _EDGE * scales[i + 1])
    steps = _steps(places[0], spans[-1][1])
    x = np.log1p(steps)
    # From a start that has learned nothing, at a rank of its own.
    log_rank, log_error = np.full(len(x), math.log(g.uniform(1, 30))), np.zeros(len(x))
    level, error = g.uniform(1, 2), 1.0
    levels = []
    for i, (place, scale) in enumerate(zip(places, scales, strict=True)):
        s = 1 / (1 + np.exp(np.clip(-(x - place) / scale, -500, 500)))
        level = level * g.uniform(1.15, 2.2) if i else level
        error = error * g.uniform(0.15, 0.75)
        log_rank = log_rank * (1 - s) + math.log(level) * s
        log_error = log_error * (1 - s) + math.log(error) * s
        levels.append(level)
    return Trace("", steps, np.exp(log_error), np.exp(log_rank), _truths(spans, levels))


def _deep_linear(g: Generator) -> Trace:
    """½‖W_N … W_1 − A‖² from αI: d ← d − η d^(N−1)(d^N − λ), for two to four eigenvalues and the zeros of A."""
    depth, n = int(g.integers(2, 4)), 10
    k = int(g.integers(2, 5))
    eigenvalues = 10 / np.cumprod([1.0, *g.uniform(1.6, 4.0, size=k - 1)])
    eta, alpha = 2e-3, 10 ** (g.uniform(-5, -3) if depth == 2 else g.uniform(-2, -1.3))
    lam, multiplicity = np.append(eigenvalues, 0.0), np.array([*np.ones(k), n - k])
    d, products = np.full(k + 1, alpha), []
    for _ in range(MAX_ROWS):
        products.append(d**depth)
        d = d - eta * d ** (depth - 1) * (d**depth - lam)
    share = np.array(products)
    p = share / (share @ multiplicity)[:, None]
    rank = np.exp(-(p * np.log(p)) @ multiplicity)
    error = ((lam - share) ** 2 @ multiplicity) / np.sum(lam**2)
    spans, levels = [], []
    for i in range(k):
        done = np.flatnonzero(share[:, i] >= 0.98 * lam[i])
        begun = np.flatnonzero(share[:, i + 1] >= 0.02 * lam[i + 1]) if i + 1 < k else []
        last = int(begun[0]) if len(begun) else MAX_ROWS - 1
        if len(done) and last > done[0]:
            ratio = lam[: i + 1] / lam[: i + 1].sum()
            spans.append((_x(int(done[0])), _x(last)))
            levels.append(float(np.exp(-np.sum(ratio * np.log(ratio)))))
    return Trace("", np.arange(MAX_ROWS), error, rank, _truths(spans, levels))


def with_noise(g: Generator, trace: Trace, scale: float) -> Trace:
    """Both columns times exp(noise), independent or AR(1) from row to row, and spikes if there is noise at all."""
    if scale == 0:
        return trace
    noise = g.normal(size=(2, len(trace.steps)))
    memory = g.choice([0.0, 0.8])
    for t in range(1, noise.shape[1] if memory else 0):
        noise[:, t] = memory * noise[:, t - 1] + math.sqrt(1 - memory**2) * noise[:, t]
    spikes = np.where(g.random(noise.shape) < 0.002, g.uniform(0.2, 0.7, size=noise.shape), 0.0)
    error, rank = np.exp(scale * noise + spikes) * [trace.error, trace.rank]
    return replace(trace, error=error, rank=rank)


def _steps(begin: float, end: float) -> NDArray[np.int64]:
    """The logged steps of a run to x = end: often enough for 40 rows up to x = begin, and at most `MAX_ROWS`."""
    last = math.expm1(end)
    every = max(1, int(min(math.exp(begin) / 40, last / 4000)), math.ceil(last / MAX_ROWS))
    return np.arange(0, int(last) + 1, every)


def _truths(spans: Sequence[tuple[float, float]], levels: Sequence[float]) -> tuple[Truth, ...]:
    return tuple(
        Truth(math.ceil(math.expm1(start)), int(math.expm1(end)), level)
        for (start, end), level in zip(spans, levels, strict=True)
        if math.expm1(end) >= math.ceil(math.expm1(start))
    )


def _x(step: int) -> float:
    return math.log1p(step)
