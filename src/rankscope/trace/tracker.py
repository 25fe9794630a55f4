"""RankTracker: the history and the plateaus of the weights of any PyTorch model, while it trains.

    with RankTracker(model, optimizer, include="*.weight", every=100) as tracker:
        ...                                 # train as ever
    tracker.history                         # a row per step and weight
    tracker.plateaus["layers.0.weight"]     # where its effective rank stood still

What is watched must not notice: the tracker holds weak references only, computes outside the graph, stays within its
share of the time, and whatever goes wrong in it is said once and ends the recording, not the training.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, Protocol, Self

import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer

from rankscope.trace.layer_history import SPECTRAL_MEASURES, LayerHistory, LayerRow, SpectralMeasures
from rankscope.trace.levels import Plateau
from rankscope.trace.plateau import PlateauDetector
from rankscope.trace.schedule import Budget, Schedule, as_schedule
from rankscope.trace.targets import Target, select

_log = logging.getLogger(__name__)


class ScalarWriter(Protocol):
    """Where scalars go: TensorBoard's SummaryWriter, or anything with its `add_scalar`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Take one number."""


def weight_plateaus() -> PlateauDetector:
    """A detector for weights: stricter than for fits on the rank, which starts near 0.8 n, more lenient on the way.

    Under a cross-entropy the norm of a weight grows for ever, also while no direction is added.
    """
    return PlateauDetector(slope_rank=0.05, slope_error=0.5, drift=0.03)


class RankTracker:
    """The spectra of a model's weights at step 0 and, by a schedule, after steps of its optimizer.

    The steps are counted by a hook on `optimizer` where one is given, otherwise by calling `step()` after each.
    Singular values are LAPACK's, of the weight in float64. A weight that is not finite gets a row of NaN.

    Matrices are taken as they are. What has more dimensions is flattened to its first by the product of the others:
    convolutions (out, in/groups, k, k) to out × in/groups·k·k. Modules with `singular_values()`, `out_features` and
    `in_features`, such as the structures of `rankscope.weights`, are asked; one at path `p` is called `p.weight`.
    Tied weights are recorded once. Models may be compiled or wrapped by DistributedDataParallel, names stay bare.

    A plateau of a weight is one of its effective rank and of `moved`, the distance of its spectrum from where it began
    (see `LayerHistory`). What the detector, and `Plateau.relative_error`, takes for the error is 1/(1 + moved²): it
    starts at 1 like that of a fit, and until the spectrum has come a tenth of its norm nothing counts as learned.

    Args:
        model: held by weak references: it may be deleted, and recording then ends.
        optimizer: gets the hook, until `close()` or the end of the `with` block.
        include, exclude: patterns of parameter names, as in `fnmatch`, one or several; vectors are left out.
        every: record at steps 0, every, 2·every, …, or a function step → bool, such as `log_spaced()`.
        measures: named metrics of `rankscope.metrics`, or functions of the singular values (r) → ().
        top_k: how many singular values to record.
        max_overhead: the fraction of the wall time that measuring may take; due steps beyond it are passed over, which
            is said once and counted in `thinned`. 1 never passes any over.
        writer: gets every finite number as the scalar `measure/layer`, for instance a TensorBoard SummaryWriter.
        detector: makes the plateau detector of each weight.

    Raises:
        ValueError: no weight matches, only vectors do, or a setting is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        include: str | Iterable[str] = "*",
        exclude: str | Iterable[str] = (),
        every: int | Schedule = 100,
        measures: SpectralMeasures = SPECTRAL_MEASURES,
        top_k: int = 5,
        max_overhead: float = 0.05,
        writer: ScalarWriter | None = None,
        detector: Callable[[], PlateauDetector] = weight_plateaus,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}; pass the model itself")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            name = type(optimizer).__name__
            raise ValueError(f"optimizer must be a torch.optim.Optimizer, got {name}; call step() by hand instead")
        self._due = as_schedule(every)
        self._budget = Budget(max_overhead)
        self._history = LayerHistory(measures, top_k=top_k)
        self._targets: list[Target] = select(model, include, exclude)
        self._layers = tuple(target.name for target in self._targets)
        self._detectors = {layer: detector() for layer in self._layers}
        self._writer = writer
        self._step, self._recorded = 0, -1
        self._thinned, self._failure = 0, ""
        # Where a whole training step is compiled, dynamo would trace into the measuring too.
        self._guarded = torch.compiler.disable(self._guard)
        # The hook is the optimizer's, not ours: a reference from here to there could keep the weights alive.
        self._hook = optimizer.register_step_post_hook(self._after_step) if optimizer is not None else None
        self._guarded(self._record_if_due)

    def step(self) -> None:
        """Count one step of the optimizer and record if it is due. Only where no hook does it. Never raises."""
        self._step += 1
        self._guarded(self._record_if_due)

    def record(self) -> None:
        """Record now, whatever schedule and budget say, unless this step already is. Never raises."""
        self._guarded(self._record)

    def close(self) -> None:
        """Remove the hook and record no more. What was recorded stays."""
        self._targets = []
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def history(self) -> pd.DataFrame:
        """A row per recorded step and weight: step, seconds, layer, the measures, moved, sigma_1 … sigma_k."""
        return self._history.to_frame()

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the history as comma-separated values."""
        self.history.to_csv(path, index=False)

    @property
    def plateaus(self) -> dict[str, tuple[Plateau, ...]]:
        """The plateaus of each weight so far; an open one ends at the last recorded step."""
        return {layer: detector.plateaus for layer, detector in self._detectors.items()}

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the weights, in the model's order."""
        return self._layers

    @property
    def thinned(self) -> int:
        """How many due steps were passed over to stay within `max_overhead`."""
        return self._thinned

    @property
    def overhead(self) -> float:
        """The fraction of the wall time so far that went into measuring."""
        return self._budget.overhead

    @property
    def failure(self) -> str:
        """What ended the recording, empty if nothing went wrong."""
        return self._failure

    def __repr__(self) -> str:
        return f"<RankTracker of {len(self._layers)} weights, {len(self._history)} rows, step {self._step}>"

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step()

    def _guard(self, action: Callable[[], None]) -> None:
        """Do it; if it fails, say so once and stop recording, for the training matters more than its record."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.close()
            self._failure = f"{type(error).__name__}: {error}"  # not the error itself: its frames hold tensors
            _say(f"RankTracker stopped recording at step {self._step}, training goes on: {self._failure}")

    def _record_if_due(self) -> None:
        if not self._targets or not self._due(self._step):
            return
        if self._budget.affordable():
            self._record()
            return
        self._thinned += 1
        if self._thinned == 1:
            percent = f"{100 * self._budget.max_overhead:g}%"
            _say(
                f"RankTracker passes over due steps to stay within max_overhead ({percent} of the time), first step "
                f"{self._step}; track fewer weights, record less often or raise max_overhead"
            )

    def _record(self) -> None:
        if not self._targets or self._recorded == self._step:
            return
        began = time.perf_counter()
        rows: list[LayerRow] = []
        alive: list[Target] = []
        for target in self._targets:
            spectrum = target.spectrum()
            if spectrum is not None:
                alive.append(target)
                rows.append(self._history.measure(self._step, self._budget.elapsed, target.name, spectrum))
        self._targets = alive
        # Only now that all could be measured: a failure leaves no step half recorded.
        self._history.extend(rows)
        self._recorded = self._step
        for row in rows:
            self._detect(row)
            self._write(row)
        self._budget.spend(time.perf_counter() - began)

    def _detect(self, row: LayerRow) -> None:
        rank, moved = row.values.get("effective_rank", float("nan")), row.values["moved"]
        self._detectors[row.layer].update(row.step, 1 / (1 + moved**2), rank)

    def _write(self, row: LayerRow) -> None:
        if self._writer is None:
            return
        for name, value in row.values.items():
            if value - value == 0:  # finite
                self._writer.add_scalar(f"{name}/{row.layer}", value, row.step)


def _say(message: str) -> None:
    """A warning, or a line in the log where a filter makes warnings errors: it must not raise into the training."""
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=_calls_up())
    except RuntimeWarning:
        _log.warning(message)


_NOT_THEIRS = ("rankscope", "torch")


def _calls_up() -> int:
    """How many calls above the warning lies the code of whoever trains: neither this library's nor torch's."""
    frame, calls = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_THEIRS:
        frame, calls = frame.f_back, calls + 1
    return calls
