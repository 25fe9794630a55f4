"""The solvers: one file, one rule each."""

from typing import Literal

from rankscope.nmf.rules.adam import Adam
from rankscope.nmf.rules.gradient_descent import GradientDescent
from rankscope.nmf.rules.hals import Hals
from rankscope.nmf.rules.multiplicative import Multiplicative
from rankscope.nmf.rules.projected_gradient import ProjectedGradient
from rankscope.nmf.rules.rule import BlockRule, JointRule, Rule
from rankscope.nmf.rules.shared_scalar import SharedScalar

SOLVERS = ("hals", "mu", "gd", "adam", "scalar")


def make_rule(
    solver: str,
    *,
    learning_rate: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    inner_sweeps: int | Literal["auto"] = 1,
    nonnegative: bool = True,
    shape: tuple[int, int] = (1, 1),
    rank: int = 1,
) -> Rule:
    """The rule of a solver's name.

    Args:
        solver: ``"hals"``, ``"mu"``, ``"gd"`` (step from the Lipschitz constants, or a fixed ``learning_rate`` for all
            factors at once), ``"adam"`` or ``"scalar"``.
        learning_rate: for gd, adam (default 0.01) and scalar (default: see SharedScalar).
        betas: for adam, how slowly the means of the gradient and of its square forget.
        inner_sweeps: for hals, sweeps over the coordinates for each pass over A; ``"auto"`` accelerates, with as many
            as suit ``shape`` and ``rank``, and extrapolation.
        nonnegative: whether factors are kept ≥ 0; gd at a fixed rate, adam and scalar can do without.
        shape, rank: those of A and of F₁.
    """
    if not nonnegative and (solver in ("hals", "mu") or (solver == "gd" and learning_rate is None)):
        which = "gd without a learning_rate" if solver == "gd" else solver
        raise ValueError(
            f"nonnegative=False is for gd at a fixed learning_rate, adam and scalar, got {which}; its step is made of "
            "F >= 0"
        )
    if learning_rate is not None and solver in ("hals", "mu"):
        raise ValueError(f"learning_rate is for gd, adam and scalar, got {learning_rate} for {solver}; leave it None")
    if learning_rate is not None and not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}; leave it None")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must lie in [0, 1), got {betas}; (0.9, 0.999) is the usual pair")
    if inner_sweeps != "auto" and inner_sweeps < 1:
        raise ValueError(f"inner_sweeps must be at least 1, got {inner_sweeps}; pass 1 or more")
    match solver:
        case "hals":
            return Hals.accelerated(shape, rank) if inner_sweeps == "auto" else Hals(inner_sweeps)
        case "mu":
            return Multiplicative()
        case "gd":
            return ProjectedGradient() if learning_rate is None else GradientDescent(learning_rate, nonnegative)
        case "adam":
            return Adam(1e-2 if learning_rate is None else learning_rate, betas, nonnegative=nonnegative)
        case "scalar":
            return SharedScalar(learning_rate, nonnegative=nonnegative)
    raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}; choose one")


__all__ = [
    "SOLVERS",
    "Adam",
    "BlockRule",
    "GradientDescent",
    "Hals",
    "JointRule",
    "Multiplicative",
    "ProjectedGradient",
    "Rule",
    "SharedScalar",
    "make_rule",
]
