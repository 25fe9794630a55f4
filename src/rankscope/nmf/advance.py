"""One iteration: a pass over A for F₁, and the small factors after it.

A block rule takes the factors in turn, each with the others as they now are (alternating). A joint rule takes them
all at once from their gradient at one point. Either way an iteration reads A once, and leaves S = F₁ᵀA and G = F₁ᵀF₁
of the new F₁.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain, fold
from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules import BlockRule, JointRule, Rule
from rankscope.nmf.subproblem import Hessian, Subproblem

Penalties = tuple[Penalty, ...]


class Trace(NamedTuple):
    """A product L H seen through its Grams, in float64: P = LᵀL, Q = HHᵀ (r×r), and ⟨LᵀA, H⟩."""

    P: Tensor
    Q: Tensor
    inner: Tensor


@dataclass(frozen=True)
class State:
    """A chain and what the last pass over A left of it."""

    chain: Chain
    lefts: tuple[tuple[Tensor, Tensor], ...]
    """(LᵀL in float64, LᵀA) for the product L left of every factor but the first: F₁, F₁F₂, …, F₁ … F_{L-1}."""
    C: Tensor | None = None
    """A (F₂ … F_L)ᵀ (m×r₁), kept for joint rules only."""
    memory: Any = None
    """What a joint rule remembers."""

    def trace(self) -> Trace:
        """What a history needs to know of this state; the next iteration uses the same Grams."""
        P, C = self.lefts[-1]
        inner = torch.dot(C.to(torch.float64).reshape(-1), self.chain.last_in_float64.reshape(-1))
        return Trace(P, self.chain.right_grams[-1], inner)


def evaluate(blocks: RowBlocks, chain: Chain) -> State:
    """The state of a chain, by one pass over A."""
    C = torch.empty_like(chain.first)

    def keep(rows: slice, F: Tensor, C_rows: Tensor) -> Tensor:
        C[rows] = C_rows
        return F

    _, S, G = blocks.sweep(chain.first, chain.dictionary, keep)
    lefts = [(G, S)]
    for F in chain.factors[1:-1]:
        lefts.append(fold(*lefts[-1], F))
    return State(chain, tuple(lefts), C)


def start(blocks: RowBlocks, chain: Chain, rule: Rule) -> State:
    """The state before the first iteration."""
    state = evaluate(blocks, chain)
    return replace(state, memory=rule.start(chain.flat())) if isinstance(rule, JointRule) else replace(state, C=None)


def advance(
    blocks: RowBlocks, state: State, rule: Rule, penalties: Penalties, *, measure: bool = False
) -> tuple[State, float | None]:
    """One iteration: the new state, and where asked the KKT residual of the old one (see ``kkt_residual``)."""
    if isinstance(rule, JointRule):
        return _advance_jointly(blocks, state, rule, penalties, measure)
    return _advance_in_turn(blocks, state, rule, penalties, measure)


def subproblems(state: State, penalties: Penalties) -> Iterator[tuple[Tensor, Subproblem]]:
    """(F_i, its subproblem) for every factor of an evaluated state, the others being as they are."""
    if state.C is None:
        raise AssertionError("F₁'s subproblem needs C; evaluate the chain first")
    first, *middle, last = state.chain.factors
    Q, *grams = state.chain.right_grams
    yield first, Subproblem(Hessian.of(None, Q, first), state.C, penalties[0])
    *lefts, (P_last, C_last) = state.lefts
    for F, R, Q, (P, S), penalty in zip(middle, state.chain.rights[1:], grams, lefts, penalties[1:-1], strict=True):
        yield F, Subproblem(Hessian.of(P, Q, F), S @ R.mT, penalty)
    yield last, Subproblem(Hessian.of(P_last, None, last), C_last, penalties[-1])


def kkt_residual(state: State, penalties: Penalties) -> float:
    """max_i ‖v_i‖/‖C_i‖, 0 at a stationary point: how far the factors are from optimal, whatever their scale.

    v_i is the part of the gradient that F_i may follow (``Subproblem.violation``), C_i = LᵀARᵀ.
    """
    return max(
        _relative(problem.violation(F), problem.C.square().sum()) for F, problem in subproblems(state, penalties)
    )


def _advance_in_turn(
    blocks: RowBlocks, state: State, rule: BlockRule, penalties: Penalties, measure: bool
) -> tuple[State, float | None]:
    first, *middle, last = state.chain.factors
    R, *rights = state.chain.rights
    Q, *grams = state.chain.right_grams
    hessian = Hessian.of(None, Q, first)
    violations: list[tuple[Tensor, Tensor]] = []

    def move(F: Tensor, problem: Subproblem) -> Tensor:
        if measure:
            violations.append((problem.violation(F), problem.C.square().sum()))
        return rule.step(F, problem)

    first, S, G = blocks.sweep(first, R, lambda rows, F, C: move(F, Subproblem(hessian, C, penalties[0])))
    if measure:  # F₁ came in blocks: one factor, one residual.
        violations = [
            (sum((v for v, _ in violations), G.new_zeros(())), sum((c for _, c in violations), G.new_zeros(())))
        ]
    factors = [first]
    lefts = [(G, S)]
    for F, R, Q, penalty in zip(middle, rights, grams, penalties[1:-1], strict=True):
        P, T = lefts[-1]
        factors.append(move(F, Subproblem(Hessian.of(P, Q, F), T @ R.mT, penalty)))
        lefts.append(fold(P, T, factors[-1]))
    P, T = lefts[-1]
    factors.append(move(last, Subproblem(Hessian.of(P, None, last), T, penalties[-1])))
    residual = max(_relative(*pair) for pair in violations) if measure else None
    return State(Chain(tuple(factors)), tuple(lefts)), residual


def _advance_jointly(
    blocks: RowBlocks, state: State, rule: JointRule[Any], penalties: Penalties, measure: bool
) -> tuple[State, float | None]:
    residual = kkt_residual(state, penalties) if measure else None
    gradients = [problem.gradient(F).reshape(-1) for F, problem in subproblems(state, penalties)]
    theta, memory = rule.step(state.chain.flat(), torch.cat(gradients), state.memory)
    return replace(evaluate(blocks, state.chain.like(theta)), memory=memory), residual


def _relative(violation: Tensor, scale: Tensor) -> float:
    # C is 0 only where A or a neighbour is 0; then the violation says enough by itself.
    return (violation / scale.where(scale > 0, 1.0)).sqrt().item()
