"""Hierarchical alternating least squares: exact coordinate descent."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules.rule import COORDINATES, BlockRule, Move
from rankscope.nmf.subproblem import Hessian, Subproblem

SWEEP_COST = 6
"""n/(6r) sweeps of F₁ take about a quarter of the time of both products: a sweep has r/2n of their operations, at a
third of their speed."""


@dataclass(frozen=True)
class Hals(BlockRule):
    """F_ij ← [F_ij − (P F Q − C + ℓ₁ + ℓ₂F)_ij / (P_ii Q_jj + ℓ₂)]₊, in order, ``inner_sweeps`` times over.

    Each coordinate goes to its exact minimizer, so the objective never rises. With one sweep and two factors this is
    scikit-learn's coordinate descent without shuffling, step for step.

    Args:
        inner_sweeps: sweeps over F₁'s coordinates for each pass over A.
        small_sweeps: sweeps over those of the other factors; None for as many.
        momentum: whether to extrapolate the small factors between iterations (see ``Momentum``).

    References: Cichocki & Phan 2009, IEICE Trans. E92-A(3), doi:10.1587/transfun.E92.A.708;
    Gillis & Glineur 2012, Neural Computation 24(4), doi:10.1162/NECO_a_00256 (several sweeps).
    """

    inner_sweeps: int = 1
    small_sweeps: int | None = None
    momentum: bool = False

    @classmethod
    def accelerated(cls, shape: tuple[int, int], rank: int) -> Self:
        """As many sweeps as the products with A (m×n) make cheap, and extrapolation.

        At least 4, for extrapolation needs each factor near its solution for the others, and at most 8, which is near
        enough.
        """
        rows, columns = (min(max(size // (SWEEP_COST * rank), 4), 8) for size in reversed(shape))
        return cls(rows, columns, momentum=True)

    @property
    def takes_separation(self) -> bool:
        """No: with it, a coordinate's minimizer has no closed form."""
        return False

    @property
    def multiplies(self) -> bool:
        """No."""
        return False

    @property
    def extrapolates(self) -> bool:
        """If asked to."""
        return self.momentum

    def move(self, hessian: Hessian, penalty: Penalty) -> Move:
        """Sweeps over the coordinates."""
        return self._moves[0 if hessian.P is None else 1]

    def pair_moves(self, penalties: tuple[Penalty, ...]) -> tuple[Move, Move]:
        """Sweeps over the coordinates of either."""
        return self._moves

    @cached_property
    def _moves(self) -> tuple[Move, Move]:
        """That of F₁ and that of the others."""
        sweeps = self.inner_sweeps if self.small_sweeps is None else self.small_sweeps
        return Move(COORDINATES, self.inner_sweeps), Move(COORDINATES, sweeps)

    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """The sweeps over the coordinates of F."""
        compiled = self.compiled_step(F, problem)
        if compiled is not None:
            return compiled
        sweeps = self.move(problem.hessian, problem.penalty).sweeps
        C = problem.C - problem.penalty.l1
        P, Q = problem.hessian.P, problem.hessian.Q
        if P is not None and Q is not None:
            return _entries(F, (P, Q, C), problem.penalty.l2, sweeps)
        hessian = problem.hessian.plus(problem.penalty.l2)
        if hessian.P is not None:
            return _rows(F.mT, hessian.P, C.mT, sweeps).mT
        assert hessian.Q is not None, "a chain has at least two factors, so one side of each is not the identity"
        return _rows(F, hessian.Q, C, sweeps)


def _rows(F: Tensor, Q: Tensor, C: Tensor, sweeps: int) -> Tensor:
    """P = I: the entries of a column do not interact, so all rows move at once, coordinate by coordinate."""
    F = F.mT.clone(memory_format=torch.contiguous_format).mT  # Columns are contiguous: coordinates of all rows.
    curvature = Q.diagonal().tolist()
    for _ in range(sweeps):
        for j, c in enumerate(curvature):
            if c == 0:  # The component is dead elsewhere; any value of this column is as good.
                continue
            descent = torch.addmv(C[:, j], F, Q[j], alpha=-1)
            F[:, j].add_(descent, alpha=1 / c).clamp_(min=0)
    return F


def _entries(F: Tensor, problem: tuple[Tensor, Tensor, Tensor], l2: float, sweeps: int) -> Tensor:
    """A middle factor, small: all entries interact, so each moves alone. On the host, where scalars are cheap."""
    from rankscope.nmf import kernels  # noqa: PLC0415

    f, p, q, c = (M.to("cpu", torch.float64, copy=True).contiguous() for M in (F, *problem))
    kernels.sweep_entries(f.numpy(), p.numpy(), q.numpy(), c.numpy(), l2, sweeps)
    return f.to(F)
