"""Train many small models of one architecture at once: learning rates × seeds × splits as one stacked model.

All parameters of all members are one matrix θ (members × parameters). One vectorized forward pass gives every member's
loss on its own batch; the gradient of their sum holds every member's own gradient, since no loss depends on another
member's row. Adam is elementwise, so with a rate per row it is exactly the computation that a loop over single models
would do. A member whose loss or next step is no longer finite stops there and the others go on.

Reference: Kingma & Ba 2015, arXiv:1412.6980.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankscope.weights.members import Data, MakeModel, Member, Split, member_order, member_split
from rankscope.weights.stacked import Models, cross_entropy, started
from rankscope.weights.step import Adam


class Epoch(NamedTuple):
    """Where a population stands after an epoch: losses and accuracies of all members, and the models themselves.

    The models go on training when the callback returns: take from them what is to be kept.
    """

    index: int
    train_loss: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    models: Models


@dataclass(frozen=True)
class PopulationResult:
    """How each member trained: arrays of (epochs × members), NaN from the epoch in which a member diverged on.

    `train_loss` is the mean cross-entropy over the epoch's batches, as they were seen; `diverged` says for each member
    in which epoch it diverged, −1 for never; `models` are the final ones, a diverged member's before that step.
    """

    members: tuple[Member, ...]
    train_loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    diverged: NDArray[np.int64]
    models: Models


def train_population(
    make_model: MakeModel,
    members: Sequence[Member],
    data: Data,
    *,
    epochs: int,
    batch_size: int = 128,
    validation: float = 0.2,
    schedule: Literal["constant", "cosine"] = "constant",
    rates: Mapping[str, float] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> PopulationResult:
    """Train all members by Adam on the cross-entropy, as if each were alone.

    Args:
        make_model: called once a member, under that member's seed.
        members: learning rates, seeds and splits.
        data: what to train on; the models are moved to its device.
        epochs: passes over the training rows, in an order of its own for each member and epoch.
        batch_size: rows a step; the last batch of an epoch may be smaller.
        validation: the share held out where a member draws its own split.
        schedule: the rate constant, or falling to 0 along half a cosine over all steps.
        rates: factors on the rate by pattern of the parameter's name; the first that matches counts, otherwise 1.
        on_epoch: called after every epoch.

    Raises:
        ValueError: no member, a rate that is not positive, a split that does not exist, splits of different sizes, or
            a number out of range.
    """
    _check(members, data, epochs=epochs, batch_size=batch_size, validation=validation, schedule=schedule)
    splits = [member_split(member, data, validation=validation) for member in members]
    train, held_out = (_stacked([split[part] for split in splits], name) for part, name in enumerate(Split._fields))
    models = started(make_model, members, data.X)
    training = Adam(models, members, rates or {})
    steps_per_epoch = math.ceil(train.shape[1] / batch_size)
    history = np.full((3, epochs, len(members)), np.nan)
    diverged = np.full(len(members), -1, dtype=np.int64)
    for epoch in range(epochs):
        order = torch.stack([member_order(member, epoch, train.shape[1]) for member in members]).to(train.device)
        rows = train.gather(1, order)
        total = torch.zeros(len(members), dtype=torch.float64, device=train.device)
        for step, batch in enumerate(rows.split(batch_size, dim=1)):
            progress = (epoch * steps_per_epoch + step) / (epochs * steps_per_epoch)
            factor = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0
            total += training.step(_rows(data.X, batch), _rows(data.y, batch), factor) * batch.shape[1]
        alive = training.alive.cpu().numpy()
        diverged[~alive & (diverged < 0)] = epoch
        loss, accuracy = _validate(training.models, data, held_out)
        values = np.stack([(total / train.shape[1]).cpu().numpy(), loss, accuracy])
        history[:, epoch] = np.where(alive, values, np.nan)
        if on_epoch is not None:
            on_epoch(Epoch(epoch, history[0, epoch].copy(), history[2, epoch].copy(), training.models))
    return PopulationResult(tuple(members), history[0], history[1], history[2], diverged, training.models)


def _validate(models: Models, data: Data, rows: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not rows.shape[1]:
        return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    loss = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    hits = torch.zeros_like(loss)
    for batch in rows.split(1024, dim=1):
        y = _rows(data.y, batch)
        outputs = models.outputs(_rows(data.X, batch), shared=False)
        loss += cross_entropy(outputs, y).double() * batch.shape[1]
        hits += (outputs.argmax(-1) == y).sum(1)
    return (loss / rows.shape[1]).cpu().numpy(), (hits / rows.shape[1]).cpu().numpy()


def _rows(A: Tensor, rows: Tensor) -> Tensor:
    """A[rows] (members × batch × …), by the route that copies whole rows."""
    return A.index_select(0, rows.reshape(-1)).unflatten(0, rows.shape)


def _stacked(parts: Sequence[Tensor], name: str) -> Tensor:
    sizes = sorted({len(part) for part in parts})
    if len(sizes) > 1:
        raise ValueError(f"all splits must have equally many {name} rows, got {sizes}; cut them to {sizes[0]}")
    return torch.stack(list(parts))


def _check(
    members: Sequence[Member], data: Data, *, epochs: int, batch_size: int, validation: float, schedule: str
) -> None:
    if not members:
        raise ValueError("members must name at least one member, got none")
    if len(data.X) != len(data.y):
        raise ValueError(f"X and y must have equally many rows, got {len(data.X)} and {len(data.y)}")
    if schedule not in ("constant", "cosine"):
        raise ValueError(f"schedule must be constant or cosine, got {schedule!r}")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}; raise it")
    if not 0 < validation < 1:
        raise ValueError(f"validation must lie between 0 and 1, got {validation}; 0.2 holds out a fifth")
    for member in members:
        if not (member.learning_rate > 0 and math.isfinite(member.learning_rate)):
            raise ValueError(f"learning_rate must be a positive number, got {member.learning_rate}; 0.01 is a start")
        if member.split is not None and not 0 <= member.split < len(data.splits):
            raise ValueError(f"split must be in 0..{len(data.splits) - 1}, got {member.split}; give data that split")
