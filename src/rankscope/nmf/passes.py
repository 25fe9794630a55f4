"""The passes over A: one moves F₁, two only look, one solves for F₁, one takes the residual itself. Beside them
one over F_L, and one that moves both factors of a pair.

    move_first:   C = A Rᵀ,  F₁ ← step(F₁, C),  S = F₁ᵀA,  G = F₁ᵀF₁
    move_last:    F_L ← step(F_L, C),  Q = F_L F_Lᵀ,  ⟨C, F_L⟩
    move_pair:    both of these for L = 2
    look:         T = A Rᵀ,  S = (F₁ inner)ᵀA,  G = F₁ᵀF₁,  ⟨S, R⟩
    multiply:     T = A Rᵀ
    solve_first:  C = A Rᵀ,  F₁ ← the minimizer

Each is compiled (``row_pass``) where that is faster, and made of library products elsewhere: on other devices and
processors, for wide factors, and for rules that have no compiled form.
"""

import platform
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankscope.addresses import LIKE
from rankscope.nmf.blocks import RowBlocks, gram
from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules import BlockRule
from rankscope.nmf.rules.rule import Move
from rankscope.nmf.subproblem import Hessian, Subproblem

WIDEST = 512
"""The widest factor that is compiled: measured up to there, 0.86 of the library's time without zeros in A."""
FAST_HERE = platform.machine().lower() in ("x86_64", "amd64")
"""Elsewhere a library may have matrix instructions that no compiler uses by itself."""


def move_first(
    blocks: RowBlocks, first: Tensor, R: Tensor, Q: Tensor, rule: BlockRule, penalty: Penalty, *, measure: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The new F₁ (m×r), and (S, G), then where asked the sums ‖v‖² and ‖C‖² of the KKT residual at the old one.

    Args:
        blocks: A.
        first: F₁ (m×r).
        R: (r×n).
        Q: RRᵀ (r×r) in float64.
        rule: how F₁ is moved.
        penalty: of F₁.
        measure: whether the KKT residual is wanted.
    """
    move = rule.move(Hessian(None, Q), penalty) if compiled(blocks, R) else None
    updated = _lying(R, blocks.shape[0]).mT  # Narrow matrices lie along A's rows: for products the fastest.
    if move is None:
        hessian = Hessian.of(None, Q, first)

        def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
            F, problem = first[rows], Subproblem(hessian, (R @ A_b.mT).mT, penalty)
            F_b = updated[rows] = rule.step(F, problem)
            terms = F_b.mT @ A_b, gram(F_b)
            return (*terms, *problem.residual(F)) if measure else terms

        return updated, blocks.total(visit)

    from rankscope.nmf.row_pass import move_rows  # noqa: PLC0415  the compiler is loaded when it is needed

    curvature, X, directions, moved = _numpy(Hessian(None, Q).plus(penalty.l2).side, first.mT, R, updated.mT)

    def visit_compiled(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        given = A_b.numpy(), rows.start, directions, curvature, penalty.l1
        S, G = terms = R.new_empty(R.shape), _room(len(R), len(R))
        residual = move_rows(*given, X, moved, move, measure, S.numpy(), G.numpy(), blocks.team)
        return (*terms, *map(_number, residual)) if measure else terms

    return updated, blocks.total(visit_compiled, stretches=True)


class Moved(NamedTuple):
    """A factor after a pass, and what was read off it."""

    F: Tensor
    Q: Tensor | None = None
    """F Fᵀ in float64, where the pass took it."""
    inner: float | None = None
    """⟨C, F⟩, where the pass took it."""
    residual: tuple[Tensor | float, ...] = ()
    """Where asked, the sums ‖v‖² and ‖C‖² of the KKT residual before."""


def move_last(
    blocks: RowBlocks, last: Tensor, P: Tensor, C: Tensor, rule: BlockRule, penalty: Penalty, *, measure: bool
) -> Moved:
    """F_L (r×n) moved.

    Args:
        blocks: A, which is not looked at.
        last: F_L before.
        P: LᵀL (r×r) in float64 for the product L of all others.
        C: LᵀA (r×n).
        rule: how it is moved.
        penalty: of F_L.
        measure: whether the KKT residual is wanted.
    """
    move = rule.move(Hessian(P, None), penalty) if compiled(blocks, last) else None
    if move is None:
        problem = Subproblem(Hessian.of(P, None, last), C, penalty)
        return Moved(rule.step(last, problem), residual=problem.residual(last) if measure else ())

    from rankscope.nmf.column_pass import move_columns  # noqa: PLC0415  the compiler is loaded when it is needed

    X, curvature, with_A = _numpy(last, Hessian(P, None).plus(penalty.l2).side, C)
    F, Q = torch.empty_like(C), torch.empty_like(P)
    inner, *residual = move_columns(
        X, curvature, with_A, penalty.l1, move, measure, F.numpy(), Q.numpy(), blocks.workers
    )
    return Moved(F, Q, inner, tuple(residual) if measure else ())


class Pair(NamedTuple):
    """Both factors after an iteration, and what was read off them."""

    F: Tensor
    H: Tensor
    S: Tensor
    """FᵀA (r×n)."""
    G: Tensor
    """FᵀF (r×r) in float64."""
    Q: Tensor
    """H Hᵀ (r×r) in float64."""
    inner: float
    """⟨S, H⟩."""
    level: float
    """½‖A − F H‖² − ½‖A‖²."""
    residuals: tuple[float, ...]
    """‖v‖² and ‖C‖² of F before, and those of H."""


def move_pair(
    blocks: RowBlocks,
    F: Tensor,
    H: Tensor,
    before: Tensor,
    beta: float,
    moves: tuple[Move, Move],
    penalties: tuple[Penalty, ...],
    *,
    measure: bool,
) -> Pair:
    """One iteration from F (m×r) and [H + β (H − before)]₊ (r×n), where it is compiled as a whole (``one_pass``)."""
    (m, n), r, like = blocks.shape, H.shape[0], LIKE[H.dtype]
    given = blocks.filled(F, H).whole, _as_rows(F), H.contiguous(), before.contiguous()
    first, after, S = results = _room(m, r, like.dtype, "F"), _room(r, n, like.dtype), _room(r, n, like.dtype)
    G, Q = grams = _room(r, r), _room(r, r)
    places = [tensor.data_ptr() for tensor in (*given, *results, *grams)]
    weights = tuple(weight for penalty in penalties for weight in (penalty.l1, penalty.l2))
    inner, level, *residuals = _turn()(like, m, n, r, *places, beta, *moves, weights, measure, blocks.team)
    return Pair(first, after, S, G, Q, inner, level, tuple(residuals))


@cache
def _turn() -> Callable[..., tuple[float, ...]]:
    """The compiled iteration, asked for once: after a pass an import statement, cold, takes 17 µs."""
    from rankscope.nmf.pair_pass import turn  # noqa: PLC0415  the compiler is loaded when it is needed

    return turn


def one_pass(blocks: RowBlocks, R: Tensor) -> bool:
    """Whether a whole iteration with R (r×n) is compiled: where A is one stretch."""
    return len(blocks.stretches) == 1 and compiled(blocks, R)


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
        S, G = R.new_empty(R.shape), _room(len(X), len(X))
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
    return FAST_HERE and blocks.at_hand and R.shape[0] <= WIDEST


def inner_product(S: Tensor, R: Tensor) -> Tensor:
    """⟨S, R⟩ in float64."""
    return torch.dot(S.to(torch.float64).reshape(-1), R.to(torch.float64).reshape(-1))


def _lying(R: Tensor, m: int) -> Tensor:
    """An r×m matrix like R (r×n), not filled."""
    return _room(len(R), m, LIKE[R.dtype].dtype) if R.device.type == "cpu" else R.new_empty(len(R), m)


def _room(rows: int, columns: int, dtype: Any = np.float64, order: Literal["C", "F"] = "C") -> Tensor:
    """A matrix on the CPU, not filled. numpy's memory can be used again as a whole; torch's is aligned, so that what is
    freed does not fit the next of its size, and a fit would keep several."""
    return torch.from_numpy(np.empty((rows, columns), dtype, order))


def _as_rows(F: Tensor) -> Tensor:
    """What lies in memory as Fᵀ does, row after row: F itself where its columns lie so."""
    return F if F.stride() == (1, F.shape[0]) else F.mT.contiguous()


def _numpy(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
