"""NMF and DeepNMF as scikit-learn estimators."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from rankscope.nmf.base import ChainEstimator, Init, Solver
from rankscope.nmf.early_stopping import Which
from rankscope.nmf.fit import Callback, Stop
from rankscope.nmf.layerwise import check_weights
from rankscope.nmf.missing import Missing
from rankscope.nmf.settings import check_size
from rankscope.trace.history import Measure

Objective = Literal["global", "layerwise"]
OBJECTIVES = ("global", "layerwise")


class NMF(ChainEstimator):
    """Find W (m×r), H (r×n) ≥ 0 minimizing ½‖X − W H‖²_F + Σ_F (ℓ₁ ΣF + ½ ℓ₂ ‖F‖²) + w ‖ĤĤᵀ − I‖²_F.

    Args:
        n_components: r; ``"auto"`` takes min(m, n), or the rank of custom factors.
        solver: ``"hals"`` (coordinate descent), ``"mu"`` (Lee & Seung), ``"gd"`` (projected gradient; step from the
            Lipschitz constants, or at ``learning_rate`` for all entries at once), ``"adam"``, ``"scalar"`` (one
            adaptive step size).
        init: ``"random"``, ``"eye"`` (tiled identities), ``"nndsvd"``, ``"nndsvda"``, or ``"custom"`` (pass W and H
            to fit).
        max_iter: the most iterations.
        tol: for ``stop="tolerance"``: the KKT residual max_F ‖∇f(F)‖/‖C‖ at which to stop (see ``kkt_residual``).
        stop: ``"tolerance"``; ``"plateau"``: on a plateau of the effective rank, going back to its middle; ``"none"``.
        plateau: which plateau: ``"first"``, ``"last"`` or k, counted from 1.
        keep_plateaus: keep the factors at every plateau, also without ``stop="plateau"``.
        learning_rate: for gd, adam (0.01) and scalar.
        betas: for adam, how slowly the means of the gradient and of its square forget (see ``Adam``).
        inner_sweeps: for hals, sweeps for each pass over X and no more; 1 is the textbook rule. ``"auto"``: as many as
            the products with X make cheap, and extrapolation with restart (see ``Hals.accelerated``, ``Momentum``).
        coarse: for hals with ``"auto"`` sweeps, fit small samples of rows first; ``"auto"`` where rows are many, by the
            rule of ``Sampling.of``.
        hops: for hals with ``"auto"`` sweeps and ``stop="tolerance"``: near a minimum, draw some components anew and
            go on from what comes of it if that is lower, until so many tries in a row were in vain; and again while the
            fit goes on (see ``hops``). ``"auto"`` by the rule of ``Hopping.of``, 0 for none; ``hops_`` reports it.
        l1, l2: ℓ₁ and ℓ₂, one number or one for each factor. scikit-learn's ``alpha_W``, ``alpha_H``, ``l1_ratio`` are
            ``l1 = (n·alpha_W·l1_ratio, m·alpha_H·l1_ratio)`` and ``l2`` the same with 1 − l1_ratio.
        cosine_separation: w, a weight on how parallel the rows of H are; not for hals.
        init_scale: multiplies each factor of a start that was not given; a small start shows low-rank bias.
        measures: further columns of ``history_``: named functions of the singular values (…, r) → (…).
        track_history: record errors and spectra at every step.
        missing: ``"mask"`` takes NaN in X for entries that were not observed, and fits the others only;
            ``"refuse"`` refuses NaN. Where entries are missing, hals does without extrapolation and samples, and a row
            or column of which nothing was observed gets zeros.
        block_rows: rows of X to work on at a time; None chooses by the cache.
        random_state: seed or numpy RandomState.
        warm_start: start from the last fit's factors.
        callback: ``callback(step, state)`` after every iteration, with ``state.factors``, ``state.history`` and
            ``state.relative_error``; a true answer stops the fit.
        progress: show a progress bar on stderr.

    Attributes:
        components_: H (r×n).
        factors_: [W, H].
        reconstruction_err_: ‖X − W H‖_F; as all errors here, over what was observed of X.
        heldout_error_: ‖X − W H‖²/‖X‖² over the entries of X that hold a number but that a mask hid; None without any.
        n_iter_: iterations done.
        history_: a DataFrame, one row a step from the start (step 0): step, seconds, relative_error (‖X−WH‖²/‖X‖²),
            absolute_error (‖X−WH‖_F), effective_rank, nuclear_over_operator, sigma_1, sigma_2, and the measures.
        plateaus_: the plateaus of the effective rank, each with start, end and level; after ``stop="plateau"`` or
            with ``keep_plateaus`` also with k, the best rank-k approximation it sits at, and then
            ``plateau_factors_`` has the factors at their middles after ``stop="plateau"``
            or with ``keep_plateaus``.
        health_: locked entries, dead components, scale ambiguity, NaN (see ``Health``).

    Warns:
        ConvergenceWarning: ``max_iter`` was reached first. LockedFitWarning: entries are stuck at zero.

    References: Lee & Seung 1999, Nature 401, doi:10.1038/44565; Gillis 2020, Nonnegative Matrix Factorization, SIAM.
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        solver: Solver = "hals",
        init: Init = "nndsvda",
        max_iter: int = 200,
        tol: float = 1e-4,
        stop: Stop = "tolerance",
        plateau: Which = "first",
        keep_plateaus: bool = False,
        learning_rate: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        inner_sweeps: int | Literal["auto"] = "auto",
        coarse: bool | Literal["auto"] = "auto",
        hops: int | Literal["auto"] = "auto",
        l1: float | Sequence[float] = 0.0,
        l2: float | Sequence[float] = 0.0,
        cosine_separation: float = 0.0,
        init_scale: float = 1.0,
        measures: Mapping[str, Measure] | None = None,
        track_history: bool = True,
        missing: Missing = "refuse",
        block_rows: int | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.stop = stop
        self.plateau = plateau
        self.keep_plateaus = keep_plateaus
        self.learning_rate = learning_rate
        self.betas = betas
        self.inner_sweeps = inner_sweeps
        self.coarse = coarse
        self.hops = hops
        self.l1 = l1
        self.l2 = l2
        self.cosine_separation = cosine_separation
        self.init_scale = init_scale
        self.measures = measures
        self.track_history = track_history
        self.missing = missing
        self.block_rows = block_rows
        self.random_state = random_state
        self.warm_start = warm_start
        self.callback = callback
        self.progress = progress

    def fit(self, X: Any, y: Any = None, W: Any = None, H: Any = None, *, mask: Any = None) -> Self:
        """Factor X (m×n); with ``init="custom"`` from W (m×r) and H (r×n).

        Args:
            mask: bool or 0/1 (m×n), true where X was observed; the other entries have no part in the fit.
        """
        self._fit(X, _pair(W, H), mask)
        return self

    def fit_transform(self, X: Any, y: Any = None, W: Any = None, H: Any = None, *, mask: Any = None) -> Any:
        """Factor X (m×n) and return its W (m×r)."""
        return self._fit(X, _pair(W, H), mask)

    def _layer_sizes(self, X: Tensor, factors: Sequence[Any] | None) -> tuple[int, ...]:
        if isinstance(self.n_components, list | tuple):
            raise ValueError(
                f"n_components must be a whole number, got {self.n_components}; use DeepNMF for several layers"
            )
        if self.n_components != "auto":
            return (check_size("n_components", self.n_components),)
        return (min(X.shape) if factors is None or np.ndim(factors[1]) != 2 else int(np.shape(factors[1])[0]),)

    def _layer_weights(self, layers: int) -> None:
        return None


class DeepNMF(ChainEstimator):
    """Find F₁ (m×r₁), F₂ (r₁×r₂), …, F_L (r_{L-1}×n) ≥ 0 minimizing ½‖X − F₁ F₂ … F_L‖²_F + penalties as in NMF.

    With two layer sizes X ≈ W1 W2 H. Every solver, start and stopping rule of NMF works at every depth.

    Layer-wise instead, with codes Z_l (r_l×n) ≥ 0 of their own, ½ Σ_l λ_l ‖Z_{l-1} − F_l Z_l‖²_F, where Z₀ = X and
    Z_{L-1} = F_L: for W1, W2, H this is λ₁‖X − W1 Z‖² + λ₂‖Z − W2 H‖². Errors and spectra, ``transform`` and
    ``inverse_transform`` are still those of the product F₁ F₂ … F_L.

    Args:
        layer_sizes: (r₁, …, r_{L-1}), the inner dimensions.
        objective: ``"global"`` or ``"layerwise"``. Layer-wise, hals does without extrapolation and samples of rows, and
            codes start as the products that they stand for.
        layer_weights: λ, one number or one for each layer. Only the start, or ``l1`` and ``l2``, give those after the
            first a meaning: without, they are a scale of Z (see ``layerwise``).
        init: as in NMF; ``"random"`` by default, since a chain of SVDs leaves components of deep fits dead more often.
        others: as in NMF; ``cosine_separation`` is on the rows of F_L.

    Attributes:
        components_: F_L (r_{L-1}×n), the signatures.
        factors_: [F₁, …, F_L].
        codes_: [Z₁, …, Z_{L-2}] of a layer-wise fit, otherwise empty.
        history_: layer-wise with a column more, layerwise_error: Σ_l λ_l ‖Z_{l-1} − F_l Z_l‖²/‖X‖².
        others: as in NMF.

    References: Trigeorgis et al. 2017, IEEE TPAMI 39(3), doi:10.1109/TPAMI.2016.2554555; De Handschutter, Gillis &
    Siebert 2021, Computer Science Review 42, arXiv:2006.15002; De Handschutter & Gillis 2023, Pattern Recognition
    134:109102 (the layer-wise objective).
    """

    def __init__(
        self,
        layer_sizes: Sequence[int] = (20, 10),
        *,
        objective: Objective = "global",
        layer_weights: float | Sequence[float] = 1.0,
        solver: Solver = "hals",
        init: Init = "random",
        max_iter: int = 200,
        tol: float = 1e-4,
        stop: Stop = "tolerance",
        plateau: Which = "first",
        keep_plateaus: bool = False,
        learning_rate: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        inner_sweeps: int | Literal["auto"] = "auto",
        coarse: bool | Literal["auto"] = "auto",
        hops: int | Literal["auto"] = "auto",
        l1: float | Sequence[float] = 0.0,
        l2: float | Sequence[float] = 0.0,
        cosine_separation: float = 0.0,
        init_scale: float = 1.0,
        measures: Mapping[str, Measure] | None = None,
        track_history: bool = True,
        missing: Missing = "refuse",
        block_rows: int | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> None:
        self.layer_sizes = layer_sizes
        self.objective = objective
        self.layer_weights = layer_weights
        self.solver = solver
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.stop = stop
        self.plateau = plateau
        self.keep_plateaus = keep_plateaus
        self.learning_rate = learning_rate
        self.betas = betas
        self.inner_sweeps = inner_sweeps
        self.coarse = coarse
        self.hops = hops
        self.l1 = l1
        self.l2 = l2
        self.cosine_separation = cosine_separation
        self.init_scale = init_scale
        self.measures = measures
        self.track_history = track_history
        self.missing = missing
        self.block_rows = block_rows
        self.random_state = random_state
        self.warm_start = warm_start
        self.callback = callback
        self.progress = progress

    def fit(self, X: Any, y: Any = None, factors: Sequence[Any] | None = None, *, mask: Any = None) -> Self:
        """Factor X (m×n); with ``init="custom"`` from the given F₁ … F_L; mask as in NMF."""
        self._fit(X, factors, mask)
        return self

    def fit_transform(self, X: Any, y: Any = None, factors: Sequence[Any] | None = None, *, mask: Any = None) -> Any:
        """Factor X (m×n) and return what ``transform`` gives for it (m×r₁).

        Where layers narrow, many F₁ make the same product; the one that the fit ended with is ``factors_[0]``.
        """
        return self.fit(X, y, factors, mask=mask).transform(X, mask=mask)

    def _layer_sizes(self, X: Tensor, factors: Sequence[Any] | None) -> tuple[int, ...]:
        if not isinstance(self.layer_sizes, list | tuple | np.ndarray):
            raise ValueError(
                f"layer_sizes must be a sequence of whole numbers, got {self.layer_sizes!r}; pass for example (20, 10)"
            )
        sizes = tuple(self.layer_sizes)
        if not sizes:
            raise ValueError(
                "layer_sizes must name at least one layer, got none; (20, 10) makes X ≈ F₁ (m×20) F₂ (20×10) F₃ (10×n)"
            )
        return tuple(check_size("every layer size", r) for r in sizes)

    def _layer_weights(self, layers: int) -> tuple[float, ...] | None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}; choose one")
        weights = check_weights(self.layer_weights, layers)
        if self.objective == "layerwise":
            return weights
        if set(weights) != {1.0}:
            raise ValueError(
                f"layer_weights are for objective='layerwise', got {self.layer_weights!r} for 'global'; leave them at 1"
            )
        return None


def _pair(W: Any, H: Any) -> tuple[Any, Any] | None:
    if (W is None) != (H is None):
        raise ValueError(f"W and H go together, got only {'H' if W is None else 'W'}; pass both with init='custom'")
    return None if W is None else (W, H)
