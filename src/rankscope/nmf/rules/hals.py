"""Hierarchical alternating least squares: exact coordinate descent, a whole row or column of coordinates at a time."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rankscope.nmf.rules.rule import BlockRule
from rankscope.nmf.subproblem import Subproblem


@dataclass(frozen=True)
class Hals(BlockRule):
    """F_ij ← [F_ij − (P F Q − C + ℓ₁ + ℓ₂F)_ij / (P_ii Q_jj + ℓ₂)]₊, in order, ``inner_sweeps`` times over.

    Each coordinate goes to its exact minimizer, so the objective never rises. With one sweep and two factors this is
    scikit-learn's coordinate descent without shuffling, step for step.

    References: Cichocki & Phan 2009, IEICE Trans. E92-A(3), doi:10.1587/transfun.E92.A.708;
    Gillis & Glineur 2012, Neural Computation 24(4), doi:10.1162/NECO_a_00256 (several sweeps).
    """

    inner_sweeps: int = 1

    @property
    def takes_separation(self) -> bool:
        """No: with it, a coordinate's minimizer has no closed form."""
        return False

    @property
    def multiplies(self) -> bool:
        """No."""
        return False

    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """``inner_sweeps`` sweeps over the coordinates of F."""
        P, Q = problem.hessian.P, problem.hessian.Q
        l1, l2 = problem.penalty.l1, problem.penalty.l2
        C = problem.C - l1 if l1 else problem.C
        if Q is None and P is not None:
            return self._rows(F, P, C, l2)
        if P is None and Q is not None:
            return self._rows(F.mT, Q, C.mT, l2).mT
        if P is not None and Q is not None:
            return self._entries(F, P, Q, C, l2)
        raise AssertionError("a chain has at least two factors, so one side of each is not the identity")

    def _rows(self, F: Tensor, P: Tensor, C: Tensor, l2: float) -> Tensor:
        """Q = I: the entries of a row do not interact, so a row moves at once."""
        F = F.clone(memory_format=torch.contiguous_format)
        curvature = (P.diagonal() + l2).tolist()
        for _ in range(self.inner_sweeps):
            for i, c in enumerate(curvature):
                if c == 0:  # The component is dead elsewhere; any value of this row is as good.
                    continue
                descent = torch.addmv(C[i], F.mT, P[i], alpha=-1)
                if l2:
                    descent.sub_(F[i], alpha=l2)
                F[i].add_(descent, alpha=1 / c).clamp_(min=0)
        return F

    def _entries(self, F: Tensor, P: Tensor, Q: Tensor, C: Tensor, l2: float) -> Tensor:
        """A middle factor, small: all entries interact, so each moves alone. On the host, where scalars are cheap."""
        f, p, q, c = (M.detach().to("cpu", torch.float64).numpy() for M in (F, P, Q, C))
        f = f.copy()
        for _ in range(self.inner_sweeps):
            for i, row in enumerate(f):
                gradient = p[i] @ f @ q - c[i] + l2 * row
                for j, g in enumerate(np.diagonal(q)):
                    curvature = p[i, i] * g + l2
                    if curvature == 0:
                        continue
                    move = max(-gradient[j] / curvature, -row[j])
                    row[j] += move
                    gradient += (move * p[i, i]) * q[j]
                    gradient[j] += move * l2
        return torch.from_numpy(f).to(F)
