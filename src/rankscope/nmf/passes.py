"""The passes over A: one moves F₁, two only look, one solves for F₁, and one takes the residual itself.

    move_first:   C = A Rᵀ,  F₁ ← step(F₁, C),  S = F₁ᵀA,  G = F₁ᵀF₁
    look:         T = A Rᵀ,  S = (F₁ inner)ᵀA,  G = F₁ᵀF₁,  ⟨S, R⟩
    multiply:     T = A Rᵀ
    solve_first:  C = A Rᵀ,  F₁ ← the minimizer

Each is compiled (``row_pass``) where that is faster, and made of library products elsewhere: on other devices and
processors, for wide factors, and for rules that have no compiled form.
"""

import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankscope.nmf.blocks import RowBlocks, gram
from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules import BlockRule
from rankscope.nmf.subproblem import Hessian, Subproblem

WIDEST = 100
"""The widest factor that is compiled: from there on library products are about as fast."""
FAST_HERE = platform.machine().lower() in ("x86_64", "amd64")
"""Elsewhere a library may have matrix instructions that no compiler uses by itself."""


def move_first(
    blocks: RowBlocks, first: Tensor, R: Tensor, hessian: Hessian, rule: BlockRule, penalty: Penalty, *, measure: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The new F₁ (m×r), and (S, G), then where asked the sums ‖v‖² and ‖C‖² of the KKT residual at the old one.

    Args:
        blocks: A.
        first: F₁ (m×r).
        R: (r×n).
        hessian: I and Q = RRᵀ.
        rule: how F₁ is moved.
        penalty: of F₁.
        measure: whether the KKT residual is wanted.
    """
    move = rule.move(hessian, penalty) if compiled(blocks, R) else None
    updated = _lying(R, blocks.shape[0]).mT  # Narrow matrices lie along A's rows: for products the fastest.
    if move is None:

        def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
            F, problem = first[rows], Subproblem(hessian, (R @ A_b.mT).mT, penalty)
            F_b = updated[rows] = rule.step(F, problem)
            terms = F_b.mT @ A_b, gram(F_b)
            return (*terms, *problem.residual(F)) if measure else terms

        return updated, blocks.total(visit)

    from rankscope.nmf.row_pass import move_rows  # noqa: PLC0415  the compiler is loaded when it is needed

    Q, X, directions, moved = _numpy(hessian.plus(penalty.l2).side, first.mT, R, updated.mT)

    def visit_compiled(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        given = A_b.numpy(), rows.start, directions, Q, penalty.l1
        S, G = terms = R.new_empty(R.shape), R.new_empty(len(R), len(R), dtype=torch.float64)
        residual = move_rows(*given, X, moved, move, measure, S.numpy(), G.numpy(), blocks.team)
        return (*terms, *map(_number, residual)) if measure else terms

    return updated, blocks.total(visit_compiled, stretches=True)


def look(
    blocks: RowBlocks, first: Tensor, inner: Tensor | None, R: Tensor, *, T: bool
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """T (m×k), if wanted, S (k×n), G (r×r) and ⟨S, R⟩ for F₁ inner R with inner (r×k), None for the identity, and
    R (k×n)."""
    Tt = _lying(R, blocks.shape[0]) if T else None
    if not (compiled(blocks, R) and compiled(blocks, first.mT)):

        def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
            if Tt is not None:
                torch.mm(R, A_b.mT, out=Tt[:, rows])
            F = first[rows]
            L = F.mT if inner is None else inner.mT @ F.mT
            return L @ A_b, gram(F)

        S, G = blocks.total(visit)
        return None if Tt is None else Tt.mT, S, G, inner_product(S, R)

    from rankscope.nmf.row_pass import evaluate_rows  # noqa: PLC0415

    nothing = R.new_empty(0, 0)
    given = first.mT, R, nothing if Tt is None else Tt, nothing if inner is None else inner.mT
    X, directions, products, between = _numpy(*given)

    def visit_compiled(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        S, G = R.new_empty(R.shape), R.new_empty(len(X), len(X), dtype=torch.float64)
        given = A_b.numpy(), rows.start, directions, between, X, products
        return S, G, _number(evaluate_rows(*given, S.numpy(), G.numpy(), blocks.team))

    S, G, with_R = blocks.total(visit_compiled, stretches=True)
    return None if Tt is None else Tt.mT, S, G, with_R


def multiply(blocks: RowBlocks, R: Tensor) -> Tensor:
    """A Rᵀ (m×k) for R (k×n)."""
    if not compiled(blocks, R):
        return blocks.times(R.mT)

    from rankscope.nmf.row_pass import evaluate_rows  # noqa: PLC0415

    T, nothing = _lying(R, blocks.shape[0]), R.new_empty(0, 0)
    directions, products, none, wide = _numpy(R, T, nothing, nothing.to(torch.float64))

    def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        evaluate_rows(A_b.numpy(), rows.start, directions, none, none, products, none, wide, blocks.team)
        return ()

    blocks.total(visit, stretches=True)
    return T.mT


def solve_first(
    blocks: RowBlocks, R: Tensor, hessian: Hessian, penalty: Penalty, *, sweeps: int, tolerance: float
) -> Tensor:
    """F (m×r) that solves the subproblem of F₁, compiled: from zero until the KKT residual of every few rows is at most
    ``tolerance``, or after so many sweeps."""
    from rankscope.nmf.row_pass import solve_rows  # noqa: PLC0415

    solution = _lying(R, blocks.shape[0])
    directions, Q, X = _numpy(R, hessian.plus(penalty.l2).side, solution)

    def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        solve_rows(A_b.numpy(), rows.start, directions, Q, penalty.l1, X, sweeps, tolerance, blocks.team)
        return ()

    blocks.total(visit, stretches=True)
    return solution.mT


def squared_residual(blocks: RowBlocks, first: Tensor, R: Tensor) -> float:
    """‖A − F₁ R‖² over what was observed, by the residual itself, in float64: exact where the Gram form cancels."""
    wide = R.to(torch.float64)
    if blocks.observed is None and compiled(blocks, R):
        from rankscope.nmf import row_pass  # noqa: PLC0415

        directions, X = _numpy(wide, first.mT)

        def visit_compiled(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
            return (_number(row_pass.squared_residual(A_b.numpy(), rows.start, directions, X, blocks.team)),)

        return blocks.total(visit_compiled, stretches=True)[0].item()

    def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        residual = torch.addmm(A_b.to(torch.float64), first[rows].to(torch.float64), wide, alpha=-1)
        if blocks.observed is not None:
            residual.mul_(blocks.observed[rows])
        return (residual.square_().sum(),)

    return blocks.total(visit)[0].item()


def compiled(blocks: RowBlocks, R: Tensor) -> bool:
    """Whether passes over A with R (r×n) are compiled."""
    return FAST_HERE and blocks.A.device.type == "cpu" and blocks.A.is_contiguous() and len(R) <= WIDEST


def inner_product(S: Tensor, R: Tensor) -> Tensor:
    """⟨S, R⟩ in float64."""
    return torch.dot(S.to(torch.float64).reshape(-1), R.to(torch.float64).reshape(-1))


def _lying(R: Tensor, m: int) -> Tensor:
    """An r×m matrix like R (r×n), not filled. numpy's memory can be used again as a whole; torch's is aligned, so that
    what is freed does not fit the next of its size, and a fit would keep several."""
    if R.device.type != "cpu":
        return R.new_empty(len(R), m)
    return torch.from_numpy(np.empty((len(R), m), R.numpy().dtype))


def _numpy(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
