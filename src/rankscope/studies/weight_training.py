"""One model of the weight study from its search to its test: the trials, the seeds, and what was seen on the way.

The fair protocol, for training rows and test rows that are the same for all models:

1. trials: each rate trains on four fifths of the training rows and is scored on the last fifth, the validation rows;
2. seeds: at the best rate, each seed draws a start, an order and a validation fifth of its own;
3. refits: at the same rate, each seed trains on all training rows, and its final model meets the test rows once.

The seeds are none that the trials had. The original protocol is the brief's: trials of 20 epochs scored on the test
rows and one run of 50.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from torch import Tensor, nn

from rankscope.studies.search import RateResult, RateSearch
from rankscope.studies.weight_models import WeightModel
from rankscope.weights import Data, Member, PopulationResult, Split, StructuredLinear, train_population
from rankscope.weights.members import member_model
from rankscope.weights.population import Epoch

Array = NDArray[np.float64]
Tick = Callable[[int], None]
"""Called with how many member-epochs were done since the last call."""


class Task(NamedTuple):
    """What to learn: inputs X and labels y of the rows to train on and of the rows to test on."""

    train: Data
    test: Data

    def permuted(self, permutation: Tensor) -> "Task":
        """The same with the inputs in another order."""
        return Task(*(Data(part.X[:, permutation].contiguous(), part.y) for part in self))


@dataclass(frozen=True)
class Protocol:
    """How to train: epochs a trial and a seed, how many seeds, the base of all seeds, the rate's schedule."""

    search: RateSearch
    name: Literal["fair", "original"] = "fair"
    trial_epochs: int = 50
    epochs: int = 50
    seeds: int = 10
    trial_seeds: int = 1
    batch_size: int = 128
    schedule: Literal["constant", "cosine"] = "constant"

    @property
    def members(self) -> list[int]:
        """The seeds of the final runs."""
        return [2000 * self.search.seed + 1 + index for index in range(self.seeds)]

    @property
    def tuning(self) -> list[int]:
        """The seeds of the trials, none of the final ones."""
        return [2000 * self.search.seed + 1000 + index for index in range(self.trial_seeds)]


@dataclass(frozen=True)
class Outcome:
    """All that one model's study has found, as numbers.

    Accuracies are shares; NaN where the protocol has no such figure or the member diverged. T = epochs, N = seeds.
    """

    learning_rate: float
    edge: str
    rates: Array
    """(trials) as asked"""
    scores: Array
    """(trials) validation accuracy; of the original protocol, test accuracy"""
    validation: Array
    """(N) final validation accuracy"""
    test: Array
    """(N) test accuracy of the refits"""
    train_loss: Array
    """(T × N)"""
    accuracy: Array
    """(T × N) validation accuracy by epoch; of the original protocol, test accuracy"""
    sigma: dict[str, Array] = field(default_factory=dict)
    """Singular values of each layer of the tested models, (T + 1 × N × r), from before the first epoch on"""
    distance: dict[str, Array] = field(default_factory=dict)
    """‖W − W_T‖_F of each layer of the first seed, (T + 1)"""
    norm: dict[str, float] = field(default_factory=dict)
    """‖W_T‖_F of each layer of the first seed"""
    clock: Array = field(default_factory=lambda: np.zeros(0))
    """(T + 1) seconds of the tested population's training"""
    seconds: float = 0.0

    def arrays(self) -> dict[str, Array]:
        """As named arrays, for a file."""
        flat: dict[str, Array] = {}
        for name, value in asdict(self).items():
            if isinstance(value, Mapping):
                flat |= {f"{name}/{layer}": np.asarray(part, dtype=np.float64) for layer, part in value.items()}
            elif name == "edge":
                flat[name] = np.array([_EDGES.index(value)], dtype=np.float64)
            else:
                flat[name] = np.atleast_1d(np.asarray(value, dtype=np.float64))
        return flat

    @classmethod
    def of_arrays(cls, flat: Mapping[str, Any]) -> "Outcome":
        """Back from named arrays."""
        nested: dict[str, Any] = {"sigma": {}, "distance": {}, "norm": {}}
        for key, value in flat.items():
            name, _, layer = key.partition("/")
            if name in nested:
                nested[name][layer] = float(value) if name == "norm" else value
            else:
                nested[name] = value
        for name in ("learning_rate", "seconds"):
            nested[name] = float(nested[name][0])
        nested["edge"] = _EDGES[int(nested["edge"][0])]
        return cls(**nested)


_EDGES = ("", "low", "high")


def study_model(
    model: WeightModel, task: Task, protocol: Protocol, *, storage: JournalStorage, name: str, tick: Tick
) -> Outcome:
    """Search the model's rate, train its seeds and test them.

    Args:
        storage: where the Optuna study of that `name` is kept; what it has already is not done again.
        tick: told of every epoch.
    """
    begun = time.perf_counter()
    trials = _Trials(model, task, protocol, tick)
    found = protocol.search.run(storage, name, trials)
    outcome = _original(trials, found) if protocol.name == "original" else _fair(trials, found)
    return replace(outcome, seconds=time.perf_counter() - begun)


class _Trials:
    """Trains members of one model under one protocol."""

    def __init__(self, model: WeightModel, task: Task, protocol: Protocol, tick: Tick) -> None:
        self.model, self.task, self.protocol, self.tick = model, task, protocol, tick

    def __call__(self, rates: list[float]) -> list[float]:
        """The scores of a round of rates: means over the tuning seeds, which all rates share."""
        original = self.protocol.name == "original"
        split = 0 if original else None
        members = [Member(rate, seed, split) for rate in rates for seed in self.protocol.tuning]
        data = on_test(self.task) if original else self.task.train
        accuracy = self.train(members, data, self.protocol.trial_epochs).validation_accuracy[-1]
        return accuracy.reshape(len(rates), -1).mean(1).tolist()

    def train(
        self, members: list[Member], data: Data, epochs: int, watch: Callable[[Epoch], None] | None = None
    ) -> PopulationResult:
        def on_epoch(epoch: Epoch) -> None:
            if watch is not None:
                watch(epoch)
            self.tick(len(members))

        return train_population(
            self.model.build,
            members,
            data,
            epochs=epochs,
            batch_size=self.protocol.batch_size,
            schedule=self.protocol.schedule,
            rates=dict(self.model.kind.rates),
            on_epoch=on_epoch,
        )


class _Watch:
    """The spectra of all layers before the first epoch and after each, and how far the first seed still has to go."""

    def __init__(self, model: WeightModel, members: list[Member]) -> None:
        starts = [member_model(model.build, member) for member in members]
        kept = [{name: layer.weight.detach() for name, layer in _layers(start)} for start in starts]
        first = {name: torch.stack([weights[name] for weights in kept]) for name in kept[0]}
        self._begun, self.clock = time.perf_counter(), [0.0]
        self._sigma: dict[str, list[Tensor]] = {name: [] for name in first}
        self._W: dict[str, list[Tensor]] = {name: [] for name in first}
        self._take(first)

    def __call__(self, epoch: Epoch) -> None:
        self.clock.append(time.perf_counter() - self._begun)
        self._take(epoch.models.weights())

    def _take(self, weights: Mapping[str, Tensor]) -> None:
        for name, W in weights.items():
            # A diverged member's weights may be too large for a spectrum; its row is then of NaN.
            good = W.flatten(1).isfinite().all(1)
            sigma = torch.linalg.svdvals(torch.where(good[:, None, None], W, 0.0).double())
            self._sigma[name].append(torch.where(good[:, None], sigma, torch.nan))
            self._W[name].append(W[0].detach().double().clone())

    def findings(self) -> dict[str, Any]:
        """For an Outcome: layers are numbered from 1."""
        sigma, distance, norm = {}, {}, {}
        for number, name in enumerate(self._sigma, start=1):
            last = self._W[name][-1]
            sigma[f"layer{number}"] = torch.stack(self._sigma[name]).numpy()
            distance[f"layer{number}"] = np.array([float((W - last).norm()) for W in self._W[name]])
            norm[f"layer{number}"] = float(last.norm())
        return {"sigma": sigma, "distance": distance, "norm": norm, "clock": np.array(self.clock)}


def _layers(model: nn.Module) -> Iterator[tuple[str, StructuredLinear]]:
    return ((name, layer) for name, layer in model.named_children() if isinstance(layer, StructuredLinear))


def _fair(trials: _Trials, found: RateResult) -> Outcome:
    protocol, task, rate = trials.protocol, trials.task, found.learning_rate
    seeds = trials.train([Member(rate, seed) for seed in protocol.members], task.train, protocol.epochs)
    rows = torch.arange(len(task.train.y))
    whole = Data(task.train.X, task.train.y, [Split(rows, rows[:0])])
    members = [Member(rate, seed, 0) for seed in protocol.members]
    watch = _Watch(trials.model, members)
    refits = trials.train(members, whole, protocol.epochs, watch)
    return Outcome(
        learning_rate=rate,
        edge=found.edge,
        rates=np.array(found.rates),
        scores=np.array(found.scores),
        validation=seeds.validation_accuracy[-1],
        test=_tested(refits, task.test),
        train_loss=seeds.train_loss,
        accuracy=seeds.validation_accuracy,
        **watch.findings(),
    )


def _original(trials: _Trials, found: RateResult) -> Outcome:
    protocol, rate = trials.protocol, found.learning_rate
    members = [Member(rate, seed, 0) for seed in protocol.members]
    watch = _Watch(trials.model, members)
    result = trials.train(members, on_test(trials.task), protocol.epochs, watch)
    return Outcome(
        learning_rate=rate,
        edge=found.edge,
        rates=np.array(found.rates),
        scores=np.array(found.scores),
        validation=np.full(len(members), np.nan),
        test=result.validation_accuracy[-1],
        train_loss=result.train_loss,
        accuracy=result.validation_accuracy,
        **watch.findings(),
    )


def on_test(task: Task) -> Data:
    """All rows with the one split of the original protocol: it trains on the one part and is scored on the other."""
    n, m = len(task.train.y), len(task.test.y)
    split = Split(torch.arange(n), torch.arange(n, n + m))
    return Data(torch.cat([task.train.X, task.test.X]), torch.cat([task.train.y, task.test.y]), [split])


def _tested(result: PopulationResult, test: Data) -> Array:
    """The test accuracy of each final model, NaN for the diverged."""
    return np.where(result.diverged < 0, result.models.accuracy(test.X, test.y), np.nan)
