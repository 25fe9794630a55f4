"""Projected Adam."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankscope.nmf.rules.rule import JointRule


class Moments(NamedTuple):
    """The number of steps taken and the running means of the gradient and of its square, on a CPU as arrays."""

    t: int
    first: Any
    second: Any


@dataclass(frozen=True)
class Adam(JointRule[Moments]):
    """θ ← [θ − η m̂/(√v̂ + ε)]₊ with m, v the running means of the gradient and of its square, bias-corrected.

    The projection follows the step, so an entry at zero moves off it when its gradient turns; a clamp inside the
    model would hold it there for ever. Adam gives every entry its own scale and so weakens a bias towards low rank.

    The second mean forgets over 1/(1 − β₂) steps. Where gradients shrink by orders of magnitude, as from a start of the
    wrong scale, it holds steps back long after: a plateau that is the optimizer's and not the model's.

    Reference: Kingma & Ba 2015, ICLR, arXiv:1412.6980.
    """

    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    nonnegative: bool = True

    @property
    def projects(self) -> bool:
        """If nonnegative."""
        return self.nonnegative

    def start(self, theta: Tensor) -> Moments:
        """Both means at zero."""
        zero = torch.zeros_like(theta)  # No step changes it, so one does for both.
        means = zero.numpy() if zero.device.type == "cpu" else zero
        return Moments(0, means, means)

    def step(self, theta: Tensor, gradient: Tensor, memory: Moments) -> tuple[Tensor, Moments]:
        """One Adam step."""
        moved = _moved_on_cpu if theta.device.type == "cpu" else _moved
        theta, first, second = moved(theta, gradient, memory, self.next_step(memory))
        return theta, Moments(memory.t + 1, first, second)

    def next_step(self, memory: Moments) -> "Step":
        """What is the same for all entries."""
        t, (beta1, beta2) = memory.t + 1, self.betas
        rate, correction = self.learning_rate / (1 - beta1**t), (1 - beta2**t) ** -0.5
        return Step(beta1, beta2, rate, correction, self.epsilon, 0.0 if self.nonnegative else -math.inf)


class Step(NamedTuple):
    """β₁, β₂, η and c, which hold the corrections of the bias, ε, and what θ is not to fall below: 0 or −∞."""

    beta1: float
    beta2: float
    rate: float
    correction: float
    epsilon: float
    least: float


def _moved(theta: Tensor, gradient: Tensor, memory: Moments, step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← max(θ − η m/(c√v + ε), least); θ, m and v."""
    first = memory.first.lerp(gradient, 1 - step.beta1)
    second = memory.second.mul(step.beta2).addcmul_(gradient, gradient, value=1 - step.beta2)
    root = second.sqrt().mul_(step.correction).add_(step.epsilon)
    return torch.addcdiv(theta, first, root, value=-step.rate).clamp_(min=step.least), first, second


def _moved_on_cpu(theta: Tensor, gradient: Tensor, memory: Moments, step: Step) -> tuple[Tensor, Any, Any]:
    """The same in one pass over memory; m and v are arrays."""
    from rankscope.nmf import kernels  # noqa: PLC0415  the compiler is loaded when it is needed

    moved, first, second = torch.empty_like(theta), np.empty_like(memory.first), np.empty_like(memory.second)
    before = theta.numpy(), gradient.numpy(), memory.first, memory.second
    kernels.adam(*before, step, moved.numpy(), first, second)
    return moved, first, second
