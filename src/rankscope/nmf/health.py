"""What may be wrong with a fit: locked entries, dead components, a free scale, numbers that are not finite.

A run whose entries are stuck at zero looks just like low-rank bias, so a fit must be able to tell the two apart.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.nmf.advance import Penalties, State, kkt_residual, subproblems
from rankscope.nmf.chain import Chain
from rankscope.nmf.rules import BlockRule, Rule
from rankscope.nmf.subproblem import Subproblem

Component = tuple[int, int]
"""(layer, k), both from 0: column k of F_{layer+1} and row k of F_{layer+2}."""

# An entry wants to grow when its gradient is below minus this fraction of the root mean square of C; less is rounding.
GROWTH = 1e-3
_NONE = (torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64))
# A component is locked when more than this share of its entries is.
LOCKED_SHARE = 0.5


@dataclass(frozen=True)
class Health:
    """The state of a fit at its end.

    Attributes:
        kkt_residual: distance from a stationary point, scale-free (see ``kkt_residual``); small means converged.
        locked_entries: for each factor, and layer-wise then for each code, the number of entries at zero that the
            objective wants to grow and the solver cannot move (only a multiplicative solver has these).
        locked_components: components most of whose entries are locked, or that are zero on both sides of the product,
            where the gradient vanishes and no solver can move them.
        dead_components: components that add nothing to the product: zero on one side at least.
        scale_ambiguous: some factors are penalized and others are not, so shrinking the one and growing the other
            lowers the penalty without changing the fit: the penalty has no effect in the limit.
        scale_spread: the largest over the smallest norm of a factor.
        not_finite_at: the step at which NaN or inf appeared, or None. The factors are those of the last finite step.
        messages: one line for each finding, with the remedy.
    """

    kkt_residual: float
    locked_entries: tuple[int, ...]
    locked_components: tuple[Component, ...]
    dead_components: tuple[Component, ...]
    scale_ambiguous: bool
    scale_spread: float
    not_finite_at: int | None
    messages: tuple[str, ...]

    @property
    def locked(self) -> bool:
        """Whether a fifth of the components, or a twentieth of the entries of a factor, is locked."""
        return any(message.startswith("locked") for message in self.messages)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.messages


def inspect(state: State, rule: Rule, penalties: Penalties, *, not_finite_at: int | None = None) -> Health:
    """The health of an evaluated state under a rule."""
    chain = state.chain
    multiplies = isinstance(rule, BlockRule) and rule.multiplies
    locked = [_locked(F, problem) if multiplies else _NONE for F, problem in subproblems(state, penalties)]
    dead, stuck = _dead_components(chain), _locked_components(chain, locked)
    counts = tuple(int(columns.sum()) for _, columns in locked)
    others = (torch.linalg.matrix_norm(F.to(torch.float64)) for F in chain.factors[1:])
    norms = [state.left_grams[0].diagonal().sum().sqrt().item(), *(norm.item() for norm in others)]
    shrunk = [penalty.l1 > 0 or penalty.l2 > 0 for penalty in penalties]
    ambiguous = any(shrunk) and not all(shrunk)

    messages = []
    if not_finite_at is not None:
        messages.append(
            f"NaN or inf appeared at step {not_finite_at}; the last finite factors were kept; lower learning_rate"
        )
    many = max(count / F.numel() for count, F in zip(counts, chain.variables, strict=True)) > 0.05
    if many or 5 * len(stuck) > sum(chain.layer_sizes):
        messages.append(
            f"locked at zero: {sum(counts)} entries, {len(stuck)} of {sum(chain.layer_sizes)} components, so a low "
            "rank here is no bias of the solver; start strictly positive (init='random' or 'nndsvda') or use "
            "solver='hals'"
        )
    if dead:
        messages.append(f"{len(dead)} components are dead (zero on one side); lower n_components or change init")
    if ambiguous:
        messages.append(
            "l1 or l2 acts on some factors only, so scale can move to the others and empty the penalty; "
            "give every factor one"
        )
    return Health(
        kkt_residual=kkt_residual(state, penalties),
        locked_entries=counts,
        locked_components=stuck,
        dead_components=dead,
        scale_ambiguous=ambiguous,
        scale_spread=max(norms) / min(norms) if min(norms) > 0 else float("inf"),
        not_finite_at=not_finite_at,
        messages=tuple(messages),
    )


def _locked(F: Tensor, problem: Subproblem) -> tuple[Tensor, Tensor]:
    """How many entries are locked in each row and in each column of F."""
    threshold = GROWTH * torch.linalg.vector_norm(problem.C) / problem.C.numel() ** 0.5
    pieces = [(part == 0) & (piece.gradient(part) < -threshold) for part, piece in problem.pieces(F)]
    return torch.cat([mask.sum(1) for mask in pieces]), torch.stack([mask.sum(0) for mask in pieces]).sum(0)


def _dead_components(chain: Chain) -> tuple[Component, ...]:
    return tuple(
        (layer, k)
        for layer, (left, right) in enumerate(zip(chain.factors, chain.factors[1:], strict=False))
        for k in ((left == 0).all(0) | (right == 0).all(1)).nonzero().flatten().tolist()
    )


def _locked_components(chain: Chain, locked: list[tuple[Tensor, Tensor]]) -> tuple[Component, ...]:
    components: list[Component] = []
    for layer in range(chain.depth - 1):
        left, right = chain.factors[layer], chain.factors[layer + 1]
        stationary = (left == 0).all(0) & (right == 0).all(1)
        if layer < len(chain.codes):
            stationary &= (chain.codes[layer] == 0).all(1)
        share = (locked[layer][1] + locked[layer + 1][0]) / (left.shape[0] + right.shape[1])
        components += [(layer, k) for k in (stationary | (share > LOCKED_SHARE)).nonzero().flatten().tolist()]
    return tuple(components)
