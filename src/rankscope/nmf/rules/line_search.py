"""Backtracking for penalties that are not quadratic, where no constant step is known to descend."""

from collections.abc import Callable

from torch import Tensor

from rankscope.nmf.subproblem import Subproblem


def descend(F: Tensor, problem: Subproblem, path: Callable[[float], Tensor], *, halvings: int = 30) -> Tensor:
    """The first of path(1), path(½), path(¼), … with an objective no higher than F's; F itself when there is none."""
    reference = problem.objective(F)
    for halving in range(halvings):
        candidate = path(0.5**halving)
        if problem.objective(candidate) <= reference:
            return candidate
    return F
