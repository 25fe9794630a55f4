"""Projected Adam."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rankscope.nmf.rules.rule import JointRule


class Moments(NamedTuple):
    """The number of steps taken and the running means of the gradient and of its square."""

    t: int
    first: Tensor
    second: Tensor


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
        return Moments(0, torch.zeros_like(theta), torch.zeros_like(theta))

    def step(self, theta: Tensor, gradient: Tensor, memory: Moments) -> tuple[Tensor, Moments]:
        """One Adam step."""
        t = memory.t + 1
        beta1, beta2 = self.betas
        first = memory.first.lerp(gradient, 1 - beta1)
        second = memory.second.mul(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = second.sqrt().mul_((1 - beta2**t) ** -0.5).add_(self.epsilon)
        rate = self.learning_rate / (1 - beta1**t)
        return self.projected(torch.addcdiv(theta, first, root, value=-rate)), Moments(t, first, second)
