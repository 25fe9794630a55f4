"""Watching a fit: errors and spectra at every step, read off what the solver forms anyway.

With the chain split before its last factor, A ≈ L H, one step leaves C = LᵀA, and

    ‖A − L H‖² = ‖A‖² − 2⟨C, H⟩ + ⟨LᵀL, HHᵀ⟩,     σ(L H)² = eigenvalues of (LᵀL)(HHᵀ),

and P = LᵀL, Q = HHᵀ are what the solver forms anyway, so a row of History costs O(r³) and never looks at A. The
arithmetic is done for many steps at once, because at small sizes calling a kernel costs more than running it. Where
entries of A are missing, the error is that of the observed ones, and takes a pass over A of its own.

A layer-wise fit has a column more, layerwise_error: Σ λ_l ‖Z_{l−1} − F_l Z_l‖²/‖A‖², what it minimizes. The others are
those of the product F₁ … F_L as in any fit.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankscope.nmf import passes
from rankscope.nmf.advance import State, Trace
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain, Flat, Layers
from rankscope.spectra import gram_singular_values
from rankscope.trace.history import Columns, History, Rows

# Below these relative errors the difference of traces has lost too many digits and the residual itself is taken.
CANCELLATION = {torch.float64: 1e-10, torch.float32: 1e-5}
MAX_PENDING = 256
"""Sightings that wait for the others' arithmetic."""
PENDING_BYTES = 16 * 2**20
"""Of the chains that they hold, and of their Grams."""


@dataclass(slots=True)
class Kept:
    """A chain as it was given, as long as it is needed."""

    given: tuple[Tensor, ...] | Flat
    layers: Layers | None

    @property
    def chain(self) -> Chain:
        """The chain anew: the one that was seen holds products, and many of those would push A out of the cache."""
        return Chain(self.given, self.layers)


class Sighting(NamedTuple):
    """One step as it was seen: its number, the time, its chain and Grams."""

    step: int
    seconds: float
    kept: Kept
    trace: Trace


@dataclass
class Watch:
    """Collects sightings and turns them into rows of a History, a batch at a time.

    Args:
        blocks: A.
        history: gets the rows.
        prompt: whether somebody waits for the rows, to stop the fit by them.
    """

    blocks: RowBlocks
    history: History
    prompt: bool = False
    _started: float = field(default_factory=time.perf_counter, init=False)
    _pending: list[Sighting] = field(default_factory=list, init=False)
    _last: Kept | None = field(default=None, init=False)
    """The chain of the last sighting, if it is not needed beside that of a later one."""
    _held: int = field(default=0, init=False)
    """How many of those that wait hold a chain."""
    _most: int = field(default=0, init=False)
    _most_held: int = field(default=0, init=False)
    _least: float = field(default=math.inf, init=False)
    """The lowest ½‖A − B‖² − ½‖A‖² that tells the error."""

    def see(self, step: int, chain: Chain, trace: Trace) -> bool:
        """Remember a step; True when it is time to flush: when enough wait, or when prompt after 3% more steps.

        Where a trace tells the error, its chain is needed only as long as it is the last: to hold many would take
        memory, and time, as new factors would never lie where earlier ones are still near. Beside large factors nothing
        waits, and they are let go last: what is small would lie where a large one was, and the next one not fit there.
        """
        seconds = time.perf_counter() - self._started
        if not self._most_held:
            size = sum(F.numel() * F.element_size() for F in chain.variables)
            self._most_held = max(1, PENDING_BYTES // size)
            waiting = max(1, min(MAX_PENDING, PENDING_BYTES // (2 * trace.P.nbytes)))
            self._most = waiting if 2 * size < PENDING_BYTES else 1
            if not self.prompt and self.blocks.observed is None:
                self._least = 0.5 * (CANCELLATION[self.blocks.dtype] - 1) * self.blocks.squared_norm
        kept = Kept(chain.given, chain.layers)
        told = trace.level is not None and self._least <= trace.level < math.inf
        if told and self._last is not None and self._most > 1:
            self._last.given = ()
            self._held -= bool(self._pending)
        self._held += 1
        self._last = kept if told else None
        self._pending.append(Sighting(step, seconds, kept, trace))
        enough = self._held >= self._most_held or len(self._pending) >= self._most
        return enough or (self.prompt and len(self._pending) > step // 32)

    def hold(self, chain: Chain) -> None:
        """Hold this chain in place of the last one, where that would be let go as soon as the next step is seen."""
        if self._last is not None:
            self._last.given = chain.given

    def flush(self) -> tuple[list[Sighting], Columns]:
        """The sightings since the last flush and their rows, now in the history. Rows that are not finite hold NaN."""
        seen, self._pending, self._held = self._pending, [], 0
        if not seen:
            return seen, {name: np.empty(0) for name in self.history.columns}
        squared_error, sigma = _measure(seen, self.blocks)
        further = {}
        if seen[0].kept.layers is not None:
            further["layerwise_error"] = self._relative(_measure_layers(seen, self.blocks))
        rows = Rows(
            step=[sighting.step for sighting in seen],
            seconds=[sighting.seconds for sighting in seen],
            relative_error=self._relative(squared_error),
            absolute_error=squared_error.sqrt(),
            sigma=sigma,
            further=further,
        )
        return seen, self.history.extend(rows)

    def _relative(self, squared_error: Tensor) -> Tensor:
        norm = self.blocks.squared_norm
        return squared_error / norm if norm > 0 else squared_error.where(squared_error == 0, torch.inf)


def relative_error(blocks: RowBlocks, state: State) -> float:
    """‖A − F₁ … F_L‖²/‖A‖² of one state, over what was observed, as a row of the history has it."""
    error, norm = squared_error(blocks, state.chain, state.trace), blocks.squared_norm
    return error / norm if norm > 0 else 0.0 if error == 0 else float("inf")


def squared_error(blocks: RowBlocks, chain: Chain, trace: Trace) -> float:
    """‖A − F₁ … F_L‖² of one evaluated chain, over what was observed."""
    read = blocks.squared_norm + 2 * trace.objective()
    cancelled = _cancelled([read], blocks)
    return passes.squared_residual(blocks, chain.first, chain.dictionary) if cancelled else read


def _column(numbers: Sequence[Tensor | float], like: Tensor) -> Tensor:
    """Numbers, of which some may be on a device and are not waited for, as a tensor like another."""
    if not any(isinstance(number, Tensor) for number in numbers):
        return like.new_tensor(numbers)
    return torch.stack([torch.as_tensor(number, dtype=like.dtype, device=like.device) for number in numbers])


def _measure(seen: Sequence[Sighting], blocks: RowBlocks) -> tuple[Tensor, Tensor]:
    """‖A − B‖² (T) and the singular values of B (T, r) of the products B at T sightings, in float64."""
    traces = [sighting.trace for sighting in seen]
    P, Q = torch.stack([trace.P for trace in traces]), torch.stack([trace.Q for trace in traces])
    levels = [trace.level for trace in traces if trace.level is not None]
    if len(levels) < len(traces):
        levels = (0.5 * (P * Q).sum((1, 2)) - _column([trace.inner for trace in traces], P)).tolist()
    errors = [blocks.squared_norm + 2 * level for level in levels]
    for t in _cancelled(errors, blocks):
        errors[t] = passes.squared_residual(blocks, seen[t].kept.chain.first, seen[t].kept.chain.dictionary)
    squared_error = P.new_tensor(errors)
    if all(map(math.isfinite, errors)):
        return squared_error, gram_singular_values(P, Q, blocks.workers)
    finite = squared_error.isfinite()
    sigma = torch.full(P.shape[:2], torch.nan, dtype=torch.float64, device=P.device)
    sigma[finite] = gram_singular_values(P[finite], Q[finite], blocks.workers)
    return squared_error, sigma


def _measure_layers(seen: Sequence[Sighting], blocks: RowBlocks) -> Tensor:
    """Σ λ_l ‖Z_{l−1} − F_l Z_l‖² (T) at T sightings of a layer-wise fit, in float64."""
    sums = torch.stack([sighting.trace.layers for sighting in seen if sighting.trace.layers is not None])
    first, later = (blocks.squared_norm + sums[:, 0]), sums[:, 1]
    for t in _cancelled(first.tolist(), blocks):
        first[t] = passes.squared_residual(blocks, seen[t].kept.chain.first, seen[t].kept.chain.basis)
    return seen[0].kept.chain.weights[0] * first + later


def _cancelled(squared_errors: Sequence[float], blocks: RowBlocks) -> list[int]:
    """Where the difference of traces does not tell the error."""
    # Where entries are missing, S was taken with those of an earlier product in their place.
    outdated, bound = blocks.observed is not None, CANCELLATION[blocks.dtype] * blocks.squared_norm
    return [t for t, error in enumerate(squared_errors) if outdated or error < bound]
