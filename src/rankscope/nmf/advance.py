"""One iteration: a pass over A for F₁, and the small factors after it.

A block rule takes the factors in turn, each with the others as they now are (alternating). A joint rule takes them
all at once from their gradient at one point. Either way an iteration reads A once, and leaves S = (F₁ … F_{L-1})ᵀA and
G = F₁ᵀF₁ of the new factors.

Where the objective is layer-wise, F₁ has Z₁ beside it in place of F₂ … F_L, so the pass over A is that of two factors;
what follows it is small, and in ``layerwise``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rankscope.nmf import layerwise, passes
from rankscope.nmf.blocks import BLOCK_BYTES, RowBlocks, gram
from rankscope.nmf.chain import Chain
from rankscope.nmf.momentum import Momentum
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import Adam, BlockRule, Hals, JointRule, Rule
from rankscope.nmf.rules.adam import Moments
from rankscope.nmf.rules.rule import Move
from rankscope.nmf.subproblem import Hessian, Subproblem
from rankscope.spectra import product

if TYPE_CHECKING:
    from rankscope.nmf.chain_pass import Look

Penalties = tuple[Penalty, ...]
SETTLING_SWEEPS = 10


class Trace(NamedTuple):
    """A product L R seen through its Grams, in float64: P = LᵀL, Q = RRᵀ (r×r), and ⟨LᵀA, R⟩."""

    P: Tensor
    Q: Tensor
    inner: Tensor | float
    layers: Tensor | None = None
    """Layer-wise, the first term of the objective less ‖A‖² and the sum of the others (2)."""
    level: float | None = None
    """½‖A − L R‖² − ½‖A‖², where the pass took it."""

    def objective(self) -> float:
        """½‖A − L R‖² − ½‖A‖²."""
        return float(0.5 * torch.sum(self.P * self.Q) - self.inner) if self.level is None else self.level


@dataclass(frozen=True)
class State:
    """A chain and what a pass over A left of it, seen from the chain's narrowest place j, where A ≈ L R with
    L = F₁ … F_j and R = F_{j+1} … F_L."""

    chain: Chain
    G: Tensor | None
    """F₁ᵀF₁ (r₁×r₁) in float64, where the pass took it."""
    S: Tensor
    """LᵀA (r_j×n)."""
    T: Tensor | None = None
    """A Rᵀ (m×r_j), kept for joint rules only; layer-wise A Z₁ᵀ (m×r₁)."""
    memory: Any = None
    """What a joint rule remembers, or the momentum of an accelerated one."""
    S_1: Tensor | None = None
    """F₁ᵀA (r₁×n), kept where the objective is layer-wise."""
    inner: Tensor | float | None = None
    """⟨S, R⟩ in float64, where the pass took it."""
    level: float | None = None
    """½‖A − L R‖² − ½‖A‖², where the pass took it."""
    read: Trace | None = None
    """What is read off this state, where the pass took it."""
    theta: Tensor | None = None
    """All entries of the chain as one vector, kept for joint rules."""
    slope: Tensor | None = None
    """∇ ½‖A − L R‖² for all of these entries, where the pass took it."""

    @cached_property
    def left_grams(self) -> tuple[Tensor, ...]:
        """LᵀL in float64 for the product L left of every factor but the first: F₁, F₁F₂, …, F₁ … F_{L-1}."""
        grams = [gram(self.chain.first) if self.G is None else self.G]
        for F in self.chain.inner_in_float64:
            grams.append(F.mT @ grams[-1] @ F)
        return tuple(grams)

    @cached_property
    def Cs(self) -> tuple[Tensor, ...]:
        """C = (F₁ … F_{i-1})ᵀ A (F_{i+1} … F_L)ᵀ for every factor F_i; T must be known."""
        if self.T is None:
            raise AssertionError("not every C is known; evaluate or complete the state first")
        j, factors = self.chain.narrowest, self.chain.factors
        return (*_pulled_back(self.T, factors[:j]), *_pulled_back(self.S, factors[j:]))

    @cached_property
    def trace(self) -> Trace:
        """What a history needs to know of this state; the next iteration uses the same Grams."""
        if self.read is not None:
            return self.read
        j = self.chain.narrowest
        inner = passes.inner_product(self.S, self.chain.right(j)) if self.inner is None else self.inner
        layers = None
        if self.S_1 is not None:
            terms = layerwise.first_term(self.chain, self.left_grams[0], self.S_1), layerwise.later_terms(self.chain)
            layers = torch.stack(terms)
        return Trace(self.left_grams[j - 1], self.chain.right_gram(j), inner, layers, self.level)

    def objective(self, penalties: Penalties) -> float:
        """½‖A − F₁ … F_L‖² − ½‖A‖² + penalties; where entries are missing, with the A' of the last pass for A.

        Layer-wise, ½ Σ λ_l ‖Z_{l-1} − F_l Z_l‖² − ½ λ₁ ‖A‖² + penalties.
        """
        penalized = zip(penalties, self.chain.factors, strict=True)
        penalty = sum(p.value(F).item() for p, F in penalized if p != NO_PENALTY)
        if self.level is not None:
            return self.level + penalty
        if self.trace.layers is None:
            return self.trace.objective() + penalty
        first, later = self.trace.layers.tolist()
        return 0.5 * (self.chain.weights[0] * first + later) + penalty


def evaluate(blocks: RowBlocks, chain: Chain, *, products: bool = True, **remembered: Any) -> State:
    """The state of a chain, by one pass over A; with T if the products with it are wanted, and what else is given."""
    if chain.layers is not None:
        pair = evaluate(blocks, Chain((chain.first, chain.basis)), products=products)
        return _layered(chain, pair.left_grams[0], pair.S, pair.T, **remembered)
    if blocks.observed is not None:
        blocks = blocks.filled(chain.first, chain.dictionary)
    j = chain.narrowest
    inner = product(chain.factors[1:j]) if j > 1 else None
    T, S, G, with_R = passes.look(blocks, chain.first, inner, chain.right(j), T=products)
    return State(chain, G, S, T, inner=with_R, **remembered)


def _evaluate_compiled(blocks: RowBlocks, chain: Chain, theta: Tensor, memory: Any) -> State:
    """The same of the chain with these entries, beside the gradient for a joint rule."""
    from rankscope.nmf import chain_pass  # noqa: PLC0415  the compiler is loaded when it is needed

    chain = chain.like(theta)
    A = blocks.packed if blocks.observed is None else blocks.filled(chain.first, chain.dictionary).whole.numpy()
    sizes, j, _ = chain.layout
    return _looked_at(chain_pass.look(A, theta.numpy(), sizes, j, blocks.team), chain, theta, memory)


def _step_compiled(blocks: RowBlocks, state: State, slope: Tensor, rule: Adam) -> State:
    """A step of Adam and the state there, in one call."""
    from rankscope.nmf import chain_pass  # noqa: PLC0415

    assert state.theta is not None
    before: Moments = state.memory
    sizes, j, _ = state.chain.layout
    given = state.theta.numpy(), slope.numpy(), before[1:], rule.next_step(before)
    (theta, first, second), look = chain_pass.step_and_look(blocks.packed, *given, sizes, j)
    after = torch.from_numpy(theta)
    return _looked_at(look, state.chain.like(after), after, Moments(before.t + 1, first, second))


def _looked_at(look: "Look", chain: Chain, theta: Tensor, memory: Any) -> State:
    P, Q, S, T, slope = map(torch.from_numpy, (look.P, look.Q, look.S, look.T, look.gradient))
    read = Trace(P, Q, look.inner, None, look.level)
    return State(chain, None, S, T.mT, memory, read=read, theta=theta, slope=slope)


def _is_compiled(blocks: RowBlocks, chain: Chain) -> bool:
    """Whether what a joint step needs of a chain is compiled: where A is small, operations would cost more than it."""
    A, widest = blocks.A, max(chain.layer_sizes)
    small = len(blocks.slices) == 1 and A.numel() * A.element_size() <= BLOCK_BYTES and widest <= passes.WIDEST
    return small and chain.layers is None and passes.compiled(blocks, chain.last)


def completed(blocks: RowBlocks, state: State) -> State:
    """The state with T: one product with A at most."""
    if state.T is not None:
        return state
    if blocks.observed is not None or state.chain.layers is not None:  # What it knows is of other entries, or layers.
        return evaluate(blocks, state.chain)
    return replace(state, T=passes.multiply(blocks, state.chain.right(state.chain.narrowest)))


def start(blocks: RowBlocks, chain: Chain, rule: Rule, penalties: Penalties = ()) -> State:
    """The state before the first iteration."""
    if isinstance(rule, JointRule):
        if not rule.projects and any(penalty != NO_PENALTY for penalty in penalties):
            raise ValueError("penalties are for factors >= 0, got some for a rule without projection; leave them out")
        theta = chain.flat()
        memory = rule.start(theta)
        if _is_compiled(blocks, chain):
            return _evaluate_compiled(blocks, chain, theta, memory)
        return evaluate(blocks, chain, memory=memory, theta=theta)
    state = evaluate(blocks, chain, products=False)
    # Extrapolation looks at the objective, and that of the observed entries would take a pass of its own. Layer-wise
    # there is none: it has been tried on products only.
    still = blocks.observed is None and chain.layers is None
    return replace(state, memory=_still(rule) if still else None)


def advance(
    blocks: RowBlocks, state: State, rule: Rule, penalties: Penalties, *, measure: bool = False
) -> tuple[State, float | None]:
    """One iteration: the new state, and where asked the KKT residual of the old one (see ``kkt_residual``)."""
    if isinstance(rule, JointRule):
        return _advance_jointly(blocks, state, rule, penalties, measure)
    if isinstance(state.memory, Momentum):
        return _advance_with_momentum(blocks, state, rule, penalties, measure)
    return take_turns(blocks, state.chain, rule, penalties, measure=measure)


def subproblems(state: State, penalties: Penalties, *, nonnegative: bool = True) -> Iterator[tuple[Tensor, Subproblem]]:
    """(F_i, its subproblem) for every factor of a complete state, the others being as they are; then every code."""
    if state.S_1 is not None:
        if state.T is None:
            raise AssertionError("the product with A is not known; evaluate the chain first")
        yield from layerwise.subproblems(
            state.chain, state.left_grams[0], state.S_1, state.T, penalties, nonnegative=nonnegative
        )
        return
    grams = zip((None, *state.left_grams), (*state.chain.right_grams, None), strict=True)
    for F, C, (P, Q), penalty in zip(state.chain.factors, state.Cs, grams, penalties, strict=True):
        yield F, Subproblem(Hessian.of(P, Q, F), C, penalty, nonnegative)


def kkt_residual(state: State, penalties: Penalties, *, nonnegative: bool = True) -> float:
    """max_i ‖v_i‖/‖C_i‖, 0 at a stationary point: how far the factors are from optimal, whatever their scale.

    v_i is the part of the gradient that F_i may follow (``Subproblem.violation``), C_i = LᵀARᵀ.
    """
    return max(_relative(*problem.residual(F)) for F, problem in subproblems(state, penalties, nonnegative=nonnegative))


def take_turns(
    blocks: RowBlocks,
    chain: Chain,
    rule: BlockRule,
    penalties: Penalties,
    *,
    momentum: Momentum | None = None,
    measure: bool = False,
) -> tuple[State, float | None]:
    """Every factor moved once, F₁ in the pass over A, and where asked the KKT residual on the way; with momentum from
    beyond the small factors, and the state carries it on."""
    moves = rule.pair_moves(penalties) if chain.depth == 2 and chain.layers is None else None
    if moves is not None and passes.one_pass(blocks, chain.last):
        return _move_pair(blocks, chain, moves, penalties, momentum=momentum, measure=measure)
    memory = None if momentum is None else momentum.carried(chain)
    if momentum is not None:
        chain = momentum.ahead(chain)
    first, (S, G, *residual) = _move_first(blocks, chain, rule, penalties[0], measure=measure)
    residuals = [_relative(*residual)] if measure else []
    if chain.layers is not None:
        moved, further = layerwise.take_turns(chain.replaced(0, first), G, S, rule, penalties, measure=measure)
        residuals += [_relative(*residual) for residual in further]
        return _layered(moved, G, S), max(residuals) if measure else None
    P, factors, lefts = G, [first], [S]
    between = zip(chain.factors[1:-1], chain.rights[1:], chain.right_grams[1:], penalties[1:-1], strict=True)
    for F, R, Q, penalty in between:
        problem = Subproblem(Hessian.of(P, Q, F), S @ R.mT, penalty)
        if measure:
            residuals.append(_relative(*problem.residual(F)))
        factors.append(rule.step(F, problem))
        wide = factors[-1].to(torch.float64)
        P, S = wide.mT @ P @ wide, factors[-1].mT @ S
        lefts.append(S)
    moved = passes.move_last(blocks, chain.last, P, S, rule, penalties[-1], measure=measure)
    if measure:
        residuals.append(_relative(*moved.residual))
    after = Chain((*factors, moved.F), gram=moved.Q)
    state = State(after, G, lefts[chain.narrowest - 1], memory=memory, inner=moved.inner)
    return state, max(residuals) if measure else None


def _move_pair(
    blocks: RowBlocks,
    chain: Chain,
    moves: tuple[Move, Move],
    penalties: Penalties,
    *,
    momentum: Momentum | None,
    measure: bool,
) -> tuple[State, float | None]:
    """The same for two factors, in one call."""
    before, beta = (chain.last, 0.0) if momentum is None else momentum.reach(chain)
    memory = None if momentum is None else momentum.carried(chain)
    pair = passes.move_pair(blocks, chain.first, chain.last, before, beta, moves, penalties, measure=measure)
    first, last = pair.residuals[:2], pair.residuals[2:]
    after = Chain((pair.F, pair.H), gram=pair.Q)
    state = State(after, pair.G, pair.S, memory=memory, inner=pair.inner, level=pair.level)
    return state, max(_relative(*first), _relative(*last)) if measure else None


def settle(blocks: RowBlocks, chain: Chain, penalties: Penalties) -> State:
    """F₁ brought close to its solution for the other factors, in one pass over A, as a state to go on from."""
    first, (S, G) = _move_first(blocks, chain, Hals(SETTLING_SWEEPS), penalties[0])
    if chain.layers is not None:
        return _layered(chain.replaced(0, first), G, S)
    for F in chain.factors[1 : chain.narrowest]:
        S = F.mT @ S
    return State(Chain((first, *chain.factors[1:])), G, S, memory=Momentum.still())


def _move_first(
    blocks: RowBlocks, chain: Chain, rule: BlockRule, penalty: Penalty, *, measure: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The new F₁, its F₁ᵀA and G, and where asked the KKT residual's two sums at the old one: one pass over A."""
    first, R = chain.first, chain.basis
    blocks = blocks.filled(first, R)
    if chain.layers is None:
        Q = chain.right_gram(1)
    else:
        Q = layerwise.first_curvature(chain)
        R = chain.weights[0] * R
    return passes.move_first(blocks, first, R, Q, rule, penalty, measure=measure)


def _advance_with_momentum(
    blocks: RowBlocks, state: State, rule: BlockRule, penalties: Penalties, measure: bool
) -> tuple[State, float | None]:
    """From beyond the small factors; back to where they were, and without momentum, if the objective rose."""
    momentum: Momentum = state.memory
    candidate, residual = take_turns(blocks, state.chain, rule, penalties, momentum=momentum, measure=measure)
    if momentum.before is not None and candidate.objective(penalties) > state.objective(penalties):
        return replace(state, memory=momentum.restarted()), residual
    return candidate, residual


def _advance_jointly(
    blocks: RowBlocks, state: State, rule: JointRule[Any], penalties: Penalties, measure: bool
) -> tuple[State, float | None]:
    residual = kkt_residual(state, penalties, nonnegative=rule.projects) if measure else None
    assert state.theta is not None
    if state.slope is not None and blocks.observed is None and isinstance(rule, Adam):
        return _step_compiled(blocks, state, gradient(state, penalties), rule), residual
    theta, memory = rule.step(state.theta, gradient(state, penalties), state.memory)
    if state.slope is not None:
        return _evaluate_compiled(blocks, state.chain, theta, memory), residual
    return evaluate(blocks, state.chain.like(theta), memory=memory, theta=theta), residual


def gradient(state: State, penalties: Penalties) -> Tensor:
    """The gradient of the objective for every variable of a complete state, as one vector."""
    if state.slope is None:
        return torch.cat([part.reshape(-1) for part in gradients(state, penalties)])
    if penalties != (NO_PENALTY,) * len(penalties):
        parts = zip(state.chain.split(state.slope), state.chain.factors, penalties, strict=True)
        return torch.cat([penalty.added_to_gradient(g, F).reshape(-1) for g, F, penalty in parts])
    return state.slope


def gradients(state: State, penalties: Penalties) -> list[Tensor]:
    """The gradient of the objective for every variable of a complete state.

    From the narrow place those of both sides, ∂/∂L = L Q − T and ∂/∂R = P R − S, are small, and go on to the factors.
    """
    if state.S_1 is not None:
        return [problem.gradient(F) for F, problem in subproblems(state, penalties)]
    assert state.T is not None
    chain, j, factors = state.chain, state.chain.narrowest, state.chain.factors
    P, Q = state.left_grams[j - 1].to(state.S.dtype), chain.right_gram(j).to(state.S.dtype)
    to_left = torch.addmm(state.T, product(factors[:j]), Q, beta=-1)
    to_right = torch.addmm(state.S, P, chain.right(j), beta=-1)
    fitted = (*_pulled_back(to_left, factors[:j]), *_pulled_back(to_right, factors[j:]))
    return [p.added_to_gradient(g, F) for g, F, p in zip(fitted, factors, penalties, strict=True)]


def _pulled_back(E: Tensor, factors: Sequence[Tensor]) -> list[Tensor]:
    """(F₁ … F_{i-1})ᵀ E (F_{i+1} … F_k)ᵀ for every factor: what is linear in the product, as linear in each."""
    parts = []
    for i, F in enumerate(factors):
        between = factors[i + 1 :]
        parts.append(E @ product(between).mT if between else E)
        E = F.mT @ E if between else E
    return parts


def _layered(chain: Chain, G: Tensor, S_1: Tensor, T: Tensor | None = None, **remembered: Any) -> State:
    S = S_1
    for F in chain.factors[1 : chain.narrowest]:
        S = F.mT @ S
    return State(chain, G, S, T, S_1=S_1, **remembered)


def _still(rule: BlockRule) -> Momentum | None:
    return Momentum.still() if rule.extrapolates else None


def _relative(violation: Tensor | float, scale: Tensor | float) -> float:
    # C is 0 only where A or a neighbour is 0; then the violation says enough by itself.
    return math.sqrt(float(violation) / (float(scale) or 1.0))
