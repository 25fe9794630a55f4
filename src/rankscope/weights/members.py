"""The members of a population: their rates and seeds, and what follows from a seed: start, split and order."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

MakeModel = Callable[[], nn.Module]
"""Makes the architecture, drawing its start from torch's global generator."""


class Split(NamedTuple):
    """The rows to train on and the rows to validate on."""

    train: Tensor
    validation: Tensor


@dataclass(frozen=True)
class Member:
    """One model of a population: its rate, the seed of its start, order and split, and a split to use instead.

    `split` is an index into the splits of `Data`; None draws a split of its own from the seed.
    """

    learning_rate: float
    seed: int
    split: int | None = None


@dataclass(frozen=True)
class Data:
    """Inputs X (n×…), class labels y (n), and splits that members can share: folds, or a final train and test part."""

    X: Tensor
    y: Tensor
    splits: Sequence[Split] = ()


def member_model(make_model: MakeModel, member: Member) -> nn.Module:
    """The model a member starts from; the global generator is left as it was."""
    with global_generator, torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(member, 0))
        return make_model()


def member_split(member: Member, data: Data, *, validation: float = 0.2) -> Split:
    """The rows of a member: its split of `data`, or a random one from its seed."""
    if member.split is not None:
        return data.splits[member.split]
    n = len(data.y)
    rows = torch.randperm(n, generator=_generator(member, 1))
    held_out = max(1, round(n * validation))
    return Split(rows[held_out:], rows[:held_out])


def member_order(member: Member, epoch: int, n: int) -> Tensor:
    """The order in which a member sees its n training rows in an epoch (from 0)."""
    return torch.randperm(n, generator=_generator(member, 2, epoch))


def folds(n: int, k: int, *, seed: int = 0) -> list[Split]:
    """k splits of n rows in random order; each validates on a k-th of them. All alike in size: n mod k rows are unused.

    Raises:
        ValueError: k is not in 2..n.
    """
    if not 2 <= k <= n:
        raise ValueError(f"k must be in 2..{n} (there are {n} rows), got {k}; choose fewer folds")
    parts = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: n - n % k].chunk(k)
    return [Split(torch.cat([*parts[:i], *parts[i + 1 :]]), parts[i]) for i in range(k)]


def _seed(member: Member, *purpose: int) -> int:
    """A seed for one use of randomness: start, split and order must not be correlated."""
    return int(np.random.SeedSequence([member.seed, *purpose]).generate_state(1)[0])


def _generator(member: Member, *purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(member, *purpose))


global_generator = threading.Lock()
"""There is one for all threads, and populations may train side by side."""
