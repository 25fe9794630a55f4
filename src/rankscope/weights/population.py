"""Train many small models of one architecture at once: learning rates × seeds × splits as one stacked model.

All parameters of all members are one matrix θ (members × parameters). One vectorized forward pass gives every member's
loss on its own batch; the gradient of their sum holds every member's own gradient, since no loss depends on another
member's row. Adam is elementwise, so with a rate per row it is exactly the computation that a loop over single models
would do. A member whose loss or gradient is no longer finite stops there and the others go on.

Reference: Kingma & Ba 2015, arXiv:1412.6980.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

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


class Epoch(NamedTuple):
    """Where a population stands after an epoch: losses and accuracies of all members, and the models themselves.

    The models go on training when the callback returns: take from them what is to be kept.
    """

    index: int
    train_loss: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    models: "Models"


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
    models: "Models"


class Models:
    """The members' models, stacked."""

    def __init__(self, template: nn.Module, theta: Tensor, buffers: Mapping[str, Tensor]) -> None:
        self._template, self._theta, self._buffers = template, theta, dict(buffers)
        self._names = [name for name, _ in template.named_parameters()]
        self._shapes = [parameter.shape for parameter in template.parameters()]

    def __len__(self) -> int:
        return len(self._theta)

    def state_dict(self, member: int) -> dict[str, Tensor]:
        """The parameters and buffers of one member."""
        stacked = {**_unflattened(self._theta, self._names, self._shapes), **self._buffers}
        return {name: tensor[member].detach().clone() for name, tensor in stacked.items()}

    def model(self, member: int) -> nn.Module:
        """One member, as a model of its own."""
        single = copy.deepcopy(self._template)
        single.load_state_dict(self.state_dict(member), strict=False)
        return single

    @torch.no_grad()
    def outputs(self, X: Tensor, *, shared: bool = True) -> Tensor:
        """The outputs (members × …) for X, the same for all members or stacked, without training-time randomness."""
        training = self._template.training
        self._template.eval()
        try:
            return vmap(self._call, in_dims=(0, 0, None if shared else 0))(self.parameters(), self._buffers, X)
        finally:
            self._template.train(training)

    def accuracy(self, X: Tensor, y: Tensor) -> NDArray[np.float64]:
        """The share of X that each member classifies as y."""
        hits = self.outputs(X).argmax(-1) == y
        return hits.double().mean(1).cpu().numpy()

    def parameters(self) -> dict[str, Tensor]:
        """Each parameter, stacked (members × shape)."""
        return _unflattened(self._theta, self._names, self._shapes)

    def losses(self, X: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of each member on its own batch, X (members × batch × …) and y (members × batch)."""
        run = vmap(self._call, in_dims=(0, 0, 0), randomness="different")
        return _cross_entropy(run(self.parameters(), self._buffers, X), y)

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self._template, (parameters, buffers), (x,))


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
    models = _started(make_model, members, data.X)
    training = _Adam(models, members, rates or {})
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
            total += training.step(data.X[batch], data.y[batch], factor) * batch.shape[1]
        alive = training.alive.cpu().numpy()
        diverged[~alive & (diverged < 0)] = epoch
        loss, accuracy = _validate(training.models, data, held_out)
        values = np.stack([(total / train.shape[1]).cpu().numpy(), loss, accuracy])
        history[:, epoch] = np.where(alive, values, np.nan)
        if on_epoch is not None:
            on_epoch(Epoch(epoch, history[0, epoch].copy(), history[2, epoch].copy(), training.models))
    return PopulationResult(tuple(members), history[0], history[1], history[2], diverged, training.models)


def member_model(make_model: MakeModel, member: Member) -> nn.Module:
    """The model a member starts from; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
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


class _Adam:
    """Adam on θ (members × parameters) with a rate for each member and a factor for each parameter."""

    def __init__(self, models: Models, members: Sequence[Member], rates: Mapping[str, float]) -> None:
        self.models, theta = models, models._theta
        self._rate = torch.tensor([[member.learning_rate] for member in members], dtype=torch.float64)
        self._rate = self._rate.to(theta) * _rate_factors(models, rates)
        self._m, self._v, self._t = torch.zeros_like(theta), torch.zeros_like(theta), 0
        self.alive = torch.ones(len(theta), dtype=torch.bool, device=theta.device)

    def step(self, X: Tensor, y: Tensor, factor: float) -> Tensor:
        """One step on every member's own batch; the losses before it."""
        theta = self.models._theta.requires_grad_(True)
        losses = self.models.losses(X, y)
        (gradient,) = torch.autograd.grad(losses.sum(), theta)
        theta.requires_grad_(False)
        with torch.no_grad():
            self._t += 1
            beta1, beta2 = 0.9, 0.999
            self._m.lerp_(gradient, 1 - beta1)
            self._v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            root = (self._v / (1 - beta2**self._t)).sqrt_().add_(1e-8)
            update = self._m / root * (self._rate * (factor / (1 - beta1**self._t)))
            moved = theta - update
            self.alive &= losses.isfinite() & gradient.isfinite().all(1) & moved.isfinite().all(1)
            theta.copy_(torch.where(self.alive[:, None], moved, theta))
        return losses.detach().double()


def _rate_factors(models: Models, rates: Mapping[str, float]) -> Tensor:
    """The factor on the rate of each entry of θ (1 × parameters)."""
    for pattern in rates:
        if not any(fnmatchcase(name, pattern) for name in models._names):
            raise ValueError(f"rates must match parameters, got {pattern!r}; there are {', '.join(models._names)}")
    parts = []
    for name, shape in zip(models._names, models._shapes, strict=True):
        factor = next((value for pattern, value in rates.items() if fnmatchcase(name, pattern)), 1.0)
        parts.append(torch.full((shape.numel(),), factor))
    return torch.cat(parts).to(models._theta)[None]


def _started(make_model: MakeModel, members: Sequence[Member], X: Tensor) -> Models:
    singles = [member_model(make_model, member).to(X.device) for member in members]
    parameters, buffers = stack_module_state(singles)
    theta = torch.cat([tensor.detach().flatten(1) for tensor in parameters.values()], dim=1)
    return Models(singles[0], theta, buffers)


def _unflattened(theta: Tensor, names: Sequence[str], shapes: Sequence[torch.Size]) -> dict[str, Tensor]:
    parts = theta.split([shape.numel() for shape in shapes], dim=1)
    return {
        name: part.unflatten(1, shape) if len(shape) else part.squeeze(1)
        for name, part, shape in zip(names, parts, shapes, strict=True)
    }


def _validate(models: Models, data: Data, rows: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    loss = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    hits = torch.zeros_like(loss)
    for batch in rows.split(1024, dim=1):
        outputs, y = models.outputs(data.X[batch], shared=False), data.y[batch]
        loss += _cross_entropy(outputs, y).double() * batch.shape[1]
        hits += (outputs.argmax(-1) == y).sum(1)
    return (loss / rows.shape[1]).cpu().numpy(), (hits / rows.shape[1]).cpu().numpy()


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean over the batch, for each member: outputs (members × batch × classes), y (members × batch)."""
    return F.cross_entropy(outputs.transpose(1, -1), y, reduction="none").mean(1)


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


def _seed(member: Member, *purpose: int) -> int:
    """A seed for one use of randomness: start, split and order must not be correlated."""
    return int(np.random.SeedSequence([member.seed, *purpose]).generate_state(1)[0])


def _generator(member: Member, *purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(member, *purpose))
