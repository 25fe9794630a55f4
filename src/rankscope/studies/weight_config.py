"""The settings of the weight study, and the task they describe."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from rankscope.datasets import load, load_mnist1d
from rankscope.studies.search import RateSearch
from rankscope.studies.weight_models import DEFAULT, Activation, weight_models
from rankscope.studies.weight_results import Entry
from rankscope.studies.weight_training import Protocol, Task
from rankscope.weights import Data

STUDY = "weights"
TEST_SHARE = 0.2


class WeightConfig(BaseModel):
    """What to compare and how.

    Attributes:
        models: names as in `weight_models`, or all.
        data: mnist1d, digits, mnist, or a .npz file with X and labels; the last fifth of its rows is the test part.
        samples: how many rows; of mnist1d, how many are generated.
        trials, epochs, seeds: of the fair protocol; the original one has trials of 20 epochs and one seed.
        hidden, depth, activation: width and number of hidden layers, and what is between.
        budget: parameters that the models without a size get.
        inputs: in their order, permuted by a fixed permutation, or one after the other.
        schedule: the rate constant, or falling to 0 on half a cosine.
        low, high: the range of rates.
        trial_seeds: each trial's score is the mean over so many.
        round_size: trials that train together.
        workers: models that train side by side, a process each; as many as there are cores by default.
        out: the folder that run folders go into.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = DEFAULT
    data: str = "mnist1d"
    samples: int | None = Field(default=None, ge=50)
    protocol: Literal["fair", "original"] = "fair"
    trials: int = Field(default=15, ge=1)
    epochs: int = Field(default=50, ge=1)
    seeds: int = Field(default=10, ge=1, le=900)
    trial_seeds: int = Field(default=1, ge=1, le=900)
    hidden: int = Field(default=100, ge=1)
    depth: int = Field(default=1, ge=1)
    activation: Activation = "relu"
    budget: int | None = Field(default=None, ge=1)
    inputs: Literal["plain", "permuted", "both"] = "plain"
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = Field(default=128, ge=1)
    low: float = Field(default=1e-4, gt=0)
    high: float = Field(default=1e-1, gt=0)
    round_size: int = Field(default=10, ge=1)
    workers: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    out: Path = Path("runs")

    def search(self) -> RateSearch:
        """How rates are searched."""
        return RateSearch(self.trials, self.low, self.high, self.round_size, self.seed)

    def settings(self) -> Protocol:
        """How models are trained."""
        original = self.protocol == "original"
        return Protocol(
            search=self.search(),
            name=self.protocol,
            trial_epochs=min(20, self.epochs) if original else self.epochs,
            epochs=self.epochs,
            seeds=1 if original else self.seeds,
            trial_seeds=1 if original else self.trial_seeds,
            batch_size=self.batch_size,
            schedule=self.schedule,
        )

    def entries(self, task: Task) -> list[Entry]:
        """Every model on every kind of inputs."""
        made = weight_models(
            self.models,
            hidden=self.hidden,
            depth=self.depth,
            activation=self.activation,
            budget=self.budget,
            inputs=task.train.X.shape[1],
            classes=int(max(part.y.max() for part in task)) + 1,
        )
        kinds = ("plain", "permuted") if self.inputs == "both" else (self.inputs,)
        return [Entry(model, kind) for kind in kinds for model in made]


def read_task(config: WeightConfig) -> Task:
    """The data, its last fifth held out for the test, each input standardized by the training rows.

    Raises:
        ValueError: there are no labels, or fewer rows than asked for.
    """
    if config.data == "mnist1d":
        X, dataset = load_mnist1d() if config.samples is None else load_mnist1d(config.samples)
    else:
        X, dataset = load(config.data)
    if dataset.labels is None:
        raise ValueError(f"data must have labels, got none with {config.data}; store them as labels in a .npz beside X")
    n = len(X) if config.samples is None else config.samples
    if n > len(X):
        raise ValueError(f"samples must be at most the {len(X)} rows of {config.data}, got {n}; lower it")
    labels = np.unique(dataset.labels[:n], return_inverse=True)[1]
    train = n - round(TEST_SHARE * n)
    values = X[:n].astype(np.float64)
    spread = values[:train].std(0)
    values = (values - values[:train].mean(0)) / np.where(spread > 0, spread, 1.0)
    X_all, y_all = torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels)
    return Task(Data(X_all[:train], y_all[:train]), Data(X_all[train:], y_all[train:]))


def permutation(config: WeightConfig, task: Task) -> torch.Tensor:
    """The fixed order of permuted inputs."""
    seed = int(np.random.SeedSequence([config.seed, 40]).generate_state(1)[0])
    return torch.randperm(task.train.X.shape[1], generator=torch.Generator().manual_seed(seed))


def rate_range(text: str) -> tuple[float, float]:
    """The lowest and the highest rate from "low,high"; ValueError when it is not that."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"rates must be lowest,highest, as in 1e-4,1e-1, got {text!r}") from None
    return low, high
