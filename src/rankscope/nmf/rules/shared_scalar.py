"""One adaptive step size shared by all entries."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rankscope.nmf.rules.rule import JointRule


class ScalarMoment(NamedTuple):
    """The number of steps taken and the running mean of ‖∇f‖²; on a GPU, where a number takes waiting, a 0-d tensor."""

    t: int
    second: Tensor | float


@dataclass(frozen=True)
class SharedScalar(JointRule[ScalarMoment]):
    """θ ← [θ − η ∇f/(√v̂ + ε)]₊ with v the running mean of ‖∇f‖² over all factors: one number, bias-corrected.

    Every step is a gradient step, so the direction of gradient descent and its bias towards low rank are kept, while
    plateaus are crossed at a steady pace: a step has length about η whatever the gradient's size.

    ``learning_rate=None`` takes η = 0.003 √(number of entries), a root-mean-square move of 0.003 an entry.

    Reference: Arora, Cohen, Hu & Luo 2019, NeurIPS, arXiv:1905.13655 (the optimizer of their experiments).
    """

    learning_rate: float | None = None
    alpha: float = 0.99
    epsilon: float = 1e-6
    nonnegative: bool = True

    @property
    def projects(self) -> bool:
        """If nonnegative."""
        return self.nonnegative

    def start(self, theta: Tensor) -> ScalarMoment:
        """A mean of zero."""
        return ScalarMoment(0, 0.0)

    def step(self, theta: Tensor, gradient: Tensor, memory: ScalarMoment) -> tuple[Tensor, ScalarMoment]:
        """One step against the gradient, at the shared rate."""
        t = memory.t + 1
        square = torch.dot(gradient, gradient)
        here = square.item() if square.device.type == "cpu" else square
        second = self.alpha * memory.second + (1 - self.alpha) * here
        eta = 3e-3 * theta.numel() ** 0.5 if self.learning_rate is None else self.learning_rate
        rate = eta / ((second / (1 - self.alpha**t)) ** 0.5 + self.epsilon)
        return self.projected(theta - rate * gradient), ScalarMoment(t, second)
