"""The search for a learning rate: an Optuna study asked and told in rounds, kept in a journal, the same after a kill.

A round's trials train as one population, so all of them are asked before any is told. Each ask has a sampler of its
own, seeded by the study's seed and the trial's place: what it proposes follows from the finished rounds alone, and a
search that was killed and goes on proposes what an uninterrupted one does. A round that was killed half told is
evaluated again, whole, for a population's rounding depends on who is in it.

Reference: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization" (the tree-structured Parzen estimator).
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

PARAMETER = "learning_rate"
EDGE = 0.05
"""An optimum this near to an end of the range, as a share of its logarithmic length, is at the edge."""
DIVERGED = 0.0
"""What a diverged trial is told to have scored: the sampler then keeps away from it."""

Evaluate = Callable[[list[float]], Sequence[float]]
"""Scores (higher is better, NaN for diverged) of the rates of one round, trained together."""


@dataclass(frozen=True)
class RateSearch:
    """How to search: `trials` rates, log-uniform on low..high, `round_size` of them at a time.

    The first two thirds are stratified, one draw in each of as many equal parts of ln(low)..ln(high), so that no
    stretch as wide as an optimum stays unseen; Optuna's TPE sampler proposes the others.

    Raises:
        ValueError: a number is out of range.
    """

    trials: int = 15
    low: float = 1e-4
    high: float = 1e-1
    round_size: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("trials", "round_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}; raise it")
        if not 0 < self.low < self.high or not math.isfinite(self.high):
            raise ValueError(f"rates must satisfy 0 < low < high, got {self.low:g} and {self.high:g}; 1e-4 and 1e-1 do")

    @property
    def record(self) -> dict[str, object]:
        """What a run notes of its sampler."""
        return {
            "sampler": f"optuna {optuna.__version__} TPESampler(multivariate=True, constant_liar=True)",
            "stratified_trials": self.stratified,
            "round_size": self.round_size,
            "seed": self.seed,
            "range": [self.low, self.high],
        }

    @property
    def stratified(self) -> int:
        """How many trials are stratified."""
        return math.ceil(2 * self.trials / 3)

    def run(self, storage: JournalStorage, name: str, evaluate: Evaluate) -> "RateResult":
        """Do what is left of the study of that name and return its result.

        Args:
            storage: from `open_storage`.
            name: of the Optuna study; it is made if it does not exist.
            evaluate: trains the rates of a round and scores them.
        """
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        _fail_unasked(study)
        while len(done := _completed(study)) < self.trials:
            first = len(done) // self.round_size * self.round_size
            self._round(study, range(first, min(first + self.round_size, self.trials)), evaluate)
        return self.result(_completed(study))

    def result(self, trials: Sequence[FrozenTrial]) -> "RateResult":
        """The best of completed trials; of equal scores the smallest rate, which is the safest."""
        rates = [trial.params[PARAMETER] for trial in trials]
        scores = [float(trial.value or 0.0) for trial in trials]
        best, score = max(zip(rates, scores, strict=True), key=lambda pair: (pair[1], -pair[0]))
        place = math.log(best / self.low) / math.log(self.high / self.low)
        edge = "low" if place < EDGE else "high" if place > 1 - EDGE else ""
        return RateResult(best, score, edge, rates, scores)

    def _round(self, study: optuna.Study, places: range, evaluate: Evaluate) -> None:
        for place in places:
            if len(_live(study)) <= place:
                self._ask(study, place)
        trials = [_live(study)[place] for place in places]
        scores = evaluate([trial.params[PARAMETER] for trial in trials])
        for trial, score in zip(trials, scores, strict=True):
            if trial.state == TrialState.RUNNING:
                study.tell(trial.number, float(score) if math.isfinite(score) else DIVERGED)

    def _ask(self, study: optuna.Study, place: int) -> None:
        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = optuna.samplers.TPESampler(n_startup_trials=self.stratified, seed=seed)
            if place < self.stratified:
                fixed = {PARAMETER: self._stratum(place)}
                study.sampler = optuna.samplers.PartialFixedSampler(fixed, study.sampler)
            study.ask({PARAMETER: FloatDistribution(self.low, self.high, log=True)})

    def _stratum(self, place: int) -> float:
        """The draw in one of the parts, which are visited in random order."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed]))
        order, share = rng.permutation(self.stratified), rng.random(self.stratified)
        return self.low * (self.high / self.low) ** float((order[place] + share[place]) / self.stratified)


@dataclass(frozen=True)
class RateResult:
    """The best rate and its score, at which edge of the range it lies ("" for neither), and all trials in order."""

    learning_rate: float
    score: float
    edge: str
    rates: list[float]
    scores: list[float]


def repair_journal(path: Path) -> None:
    """After a kill: a torn last line and a stale lock are removed. Nobody may be using the journal."""
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink()
    if path.exists():
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)


def open_storage(path: Path) -> JournalStorage:
    """The journal at `path`, made if need be; several processes may use it at once.

    Open it with Optuna's own tools as `JournalStorage(JournalFileBackend(path))`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path)))


def _live(study: optuna.Study) -> list[FrozenTrial]:
    """Running and completed trials, in the order of their asks: their place in this list is what seeds them."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE))


def _completed(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _fail_unasked(study: optuna.Study) -> None:
    """A kill between a trial's making and its draw leaves one without a rate: it is asked again in its place."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if PARAMETER not in trial.params:
            study.tell(trial.number, state=TrialState.FAIL)
