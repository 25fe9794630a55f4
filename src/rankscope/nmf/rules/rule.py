"""A solver is one pure rule: hyperparameters and a step. It does not loop, time, log or print.

There are two kinds. A block rule moves one factor while the others rest, and the loop takes the factors in turn; F₁'s
rows do not interact, so it moves F₁ a row block at a time. A joint rule moves all entries at once along their
gradient at the same point, which is what gradient descent on the whole model means and what its theory speaks of.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from rankscope.nmf.subproblem import Subproblem

Memory = TypeVar("Memory")


@dataclass(frozen=True)
class BlockRule(ABC):
    """Moves one factor F, given its subproblem."""

    @property
    @abstractmethod
    def takes_separation(self) -> bool:
        """Whether the rule can take a penalty that is not quadratic in F."""

    @property
    @abstractmethod
    def multiplies(self) -> bool:
        """Whether an entry at zero stays there for ever."""

    @property
    @abstractmethod
    def extrapolates(self) -> bool:
        """Whether the loop starts each iteration from beyond the small factors (see ``Momentum``)."""

    @abstractmethod
    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """The factor after one step, a new tensor ≥ 0."""


@dataclass(frozen=True)
class JointRule(ABC, Generic[Memory]):
    """Moves all entries θ of a chain, given their gradient and what it remembers of earlier ones.

    A joint rule that is not ``nonnegative`` skips the projection [·]₊: the factors of a deep linear network. Only these
    can; a block rule's very step is made of F ≥ 0.
    """

    @property
    @abstractmethod
    def projects(self) -> bool:
        """Whether θ is kept ≥ 0."""

    @abstractmethod
    def start(self, theta: Tensor) -> Memory:
        """What the rule remembers before its first step."""

    @abstractmethod
    def step(self, theta: Tensor, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """(θ, memory) after one step, new tensors, θ ≥ 0 if the rule projects."""

    def projected(self, theta: Tensor) -> Tensor:
        """[θ]₊ in place, or θ as it is."""
        return theta.clamp_(min=0) if self.projects else theta


Rule = BlockRule | JointRule
