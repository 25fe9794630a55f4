"""A solver is one pure rule: hyperparameters and a step. It does not loop, time, log or print.

There are two kinds. A block rule moves one factor while the others rest, and the loop takes the factors in turn; F₁'s
rows do not interact, so it moves F₁ a row block at a time. A joint rule moves all entries at once along their
gradient at the same point, which is what gradient descent on the whole model means and what its theory speaks of.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from rankscope.nmf.penalty import Penalty
from rankscope.nmf.subproblem import Hessian, Subproblem

Memory = TypeVar("Memory")
COORDINATES, MULTIPLICATION, DESCENT = range(3)
SWEEPS_PER_CHECK = 12
"""About what takes a row from zero to single precision."""


class Move(NamedTuple):
    """A step of a block rule as compiled loops take it."""

    kind: int
    """COORDINATES: sweeps of coordinate descent. MULTIPLICATION. DESCENT: a projected gradient step."""
    sweeps: int = 0
    rate: float = 0.0


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
    def move(self, hessian: Hessian, penalty: Penalty) -> Move | None:
        """What the step is where rows, or columns, of F do not interact; None if it has no compiled form."""

    def pair_moves(self, penalties: tuple[Penalty, ...]) -> tuple[Move, Move] | None:
        """The moves of both factors of a pair, where they are known before either is moved; None otherwise."""
        return None

    @abstractmethod
    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """The factor after one step, a new tensor ≥ 0."""

    def compiled_step(self, F: Tensor, problem: Subproblem) -> Tensor | None:
        """The same in compiled loops, on a CPU and where there are any: some ten operations in one."""
        move = self.move(problem.hessian, problem.penalty) if problem.hessian.one_sided else None
        if move is None or F.device.type != "cpu":
            return None
        from rankscope.nmf.column_pass import move_columns  # noqa: PLC0415  the compiler is loaded when it is needed

        M = problem.hessian.plus(problem.penalty.l2).side
        by_columns = problem.hessian.P is not None
        X, C = (F, problem.C) if by_columns else (F.mT, problem.C.mT)
        X, M, C = (tensor.contiguous() for tensor in (X, M.to(torch.float64), C))
        moved, nothing = torch.empty_like(X), M.new_empty(0, 0)
        given = X.numpy(), M.numpy(), C.numpy(), problem.penalty.l1, move, False
        move_columns(*given, moved.numpy(), nothing.numpy(), 1)
        return moved if by_columns else moved.mT


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
