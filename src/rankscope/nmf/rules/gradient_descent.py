"""Projected gradient descent at a fixed rate."""

from dataclasses import dataclass

from torch import Tensor

from rankscope.nmf.rules.rule import JointRule


@dataclass(frozen=True)
class GradientDescent(JointRule[None]):
    """θ ← [θ − η ∇f(θ)]₊ for all factors at once.

    The plainest model of learning, and the one whose rank staircase has a closed form. η is not checked against the
    curvature: too large a rate diverges.
    """

    learning_rate: float
    nonnegative: bool = True

    @property
    def projects(self) -> bool:
        """If nonnegative."""
        return self.nonnegative

    def start(self, theta: Tensor) -> None:
        """Nothing is remembered."""

    def step(self, theta: Tensor, gradient: Tensor, memory: None) -> tuple[Tensor, None]:
        """One step against the gradient."""
        return self.projected(theta.sub(gradient, alpha=self.learning_rate)), None
