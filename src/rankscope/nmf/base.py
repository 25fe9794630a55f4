"""What the estimators share: fitting a chain to X, what is learned, and scikit-learn's contract."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from rankscope.errors import LockedFitWarning
from rankscope.nmf.advance import completed, evaluate
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain, broadcast_per_factor
from rankscope.nmf.coarse import Sampling
from rankscope.nmf.early_stopping import Which
from rankscope.nmf.encode import encode
from rankscope.nmf.fit import Callback, Fit, Progress, Stop, Stopping, fit
from rankscope.nmf.generate import sample_activations
from rankscope.nmf.health import Health, inspect
from rankscope.nmf.hops import Hopping
from rankscope.nmf.initial import INITS, Start, without_unseen
from rankscope.nmf.levels import classify, detect, label
from rankscope.nmf.missing import Missing, heldout_error, observed_entries
from rankscope.nmf.penalty import Penalty
from rankscope.nmf.progress import progress_bar
from rankscope.nmf.rules import BlockRule, Hals, Rule, make_rule
from rankscope.nmf.settings import check_settings, check_size
from rankscope.nmf.validation import check_factors, check_matrix
from rankscope.nmf.watch import squared_error
from rankscope.spectra import product
from rankscope.trace.history import History, Measure
from rankscope.trace.levels import Plateau

Solver = Literal["hals", "mu", "gd", "adam", "scalar"]
Init = Literal["random", "eye", "nndsvd", "nndsvda", "custom"]


class ChainEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Everything but how many factors there are."""

    solver: Solver
    init: Init
    max_iter: int
    tol: float
    stop: Stop
    plateau: Which
    keep_plateaus: bool
    learning_rate: float | None
    betas: tuple[float, float]
    inner_sweeps: int | Literal["auto"]
    coarse: bool | Literal["auto"]
    hops: int | Literal["auto"]
    l1: float | Sequence[float]
    l2: float | Sequence[float]
    cosine_separation: float
    init_scale: float
    measures: Mapping[str, Measure] | None
    track_history: bool
    missing: Missing
    block_rows: int | None
    random_state: Any
    warm_start: bool
    callback: Callback | None
    progress: bool

    @abstractmethod
    def _layer_sizes(self, X: Tensor, factors: Sequence[Any] | None) -> tuple[int, ...]:
        """(r₁, …, r_{L-1}) for this X."""

    @abstractmethod
    def _layer_weights(self, layers: int) -> tuple[float, ...] | None:
        """λ₁, …, λ_{L-1} of the layer-wise objective; None for the global one."""

    def transform(self, X: Any, *, mask: Any = None) -> Any:
        """The activations F₁ (m×r₁) of rows X (m×n): the fit's own F₁ subproblem, solved to its end (``encode``).

        Args:
            X: the rows.
            mask: as in fit; only what was observed of a row is encoded.
        """
        check_is_fitted(self)
        A, observed = self._read(X, mask, reset=False)
        blocks = RowBlocks.of(A, self.block_rows, observed=observed)
        factors = [blocks.like(torch.as_tensor(F)) for F in self.factors_[1:]]
        activations = encode(blocks, product(factors), self._penalties(len(factors) + 1)[0])
        return _like(X, activations)

    def inverse_transform(self, X: Any) -> Any:
        """The rows (m×n) that activations X (m×r₁) make: X F₂ … F_L."""
        check_is_fitted(self)
        F = torch.as_tensor(np.asarray(X) if not isinstance(X, Tensor) else X)
        dictionary = product([torch.as_tensor(G) for G in self.factors_[1:]])
        if F.ndim != 2 or F.shape[1] != len(dictionary):
            raise ValueError(
                f"X must have {len(dictionary)} columns, one for each component, got shape {tuple(F.shape)}"
            )
        return _like(X, F.to(dictionary) @ dictionary)

    def sample(self, n: int = 1, random_state: Any = None) -> Any:
        """n new rows like those fitted (n×columns): activations drawn between fitted ones (see ``generate``), made
        into rows. Rows of which nothing was observed are not drawn between.

        Args:
            n: how many.
            random_state: seed or numpy RandomState; None draws anew each time.
        """
        check_is_fitted(self)
        n = check_size("n", n)
        rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        W, *rest = (torch.as_tensor(F).cpu() for F in self.factors_)
        W = W if self._seen_rows is None else W[self._seen_rows.cpu()]
        dictionary = product(rest)
        gram = (dictionary.double() @ dictionary.double().mT).numpy()
        activations = sample_activations(W.numpy(), gram, n, rng)
        return _like(self.factors_[0], torch.from_numpy(activations) @ dictionary)

    @property
    def _n_features_out(self) -> int:
        return self.factors_[0].shape[1]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = self.missing == "mask"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _read(self, X: Any, mask: Any, *, reset: bool) -> tuple[Tensor, Tensor | None]:
        """X as a tensor, and which of its entries were observed; None for all."""
        A = check_matrix(self, X, reset=reset, allow_nan=self.missing == "mask" or mask is not None)
        return A, observed_entries(A, mask, self.missing)

    def _fit(self, X: Any, factors: Sequence[Any] | None, mask: Any = None) -> Any:
        A, observed = self._read(X, mask, reset=True)
        check_settings(self.get_params(deep=False))
        sizes = self._layer_sizes(A, factors)
        weights = self._layer_weights(len(sizes))
        rule = make_rule(
            self.solver,
            learning_rate=self.learning_rate,
            betas=self.betas,
            inner_sweeps=self.inner_sweeps,
            shape=(A.shape[0], A.shape[1]),
            rank=sizes[0],
        )
        penalties = self._penalties(len(sizes) + 1)
        if self.cosine_separation and isinstance(rule, BlockRule) and not rule.takes_separation:
            raise ValueError(
                f"solver={self.solver!r} cannot take cosine_separation (its exact coordinate minimizer has no closed "
                "form); use 'mu', 'gd', 'adam' or 'scalar'"
            )
        stopping = Stopping(self.max_iter, self.stop, self.tol, self.plateau, self.keep_plateaus)
        blocks = RowBlocks.of(A, self.block_rows, observed=observed)
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
        with ExitStack() as stack:
            callbacks = [] if self.callback is None else [self.callback]
            if self.progress:
                callbacks.append(stack.enter_context(progress_bar(type(self).__name__)))
            result = fit(
                blocks,
                self._with_codes(blocks, self._start(blocks, sizes, rule, factors, generator), weights),
                rule,
                stopping=stopping,
                penalties=penalties,
                history=History(self.measures or {}) if self.track_history else None,
                callback=_all(callbacks),
                sampling=self._sampling(blocks, sizes, weights, rule, generator),
                hopping=self._hopping(blocks, sizes, weights, rule, generator),
            )
        self._keep(X, result, blocks, rule, penalties)
        if result.reason == "interrupted":
            raise KeyboardInterrupt
        self._warn(result)
        return self.factors_[0]

    def _sampling(
        self,
        blocks: RowBlocks,
        sizes: tuple[int, ...],
        weights: tuple[float, ...] | None,
        rule: Rule,
        generator: torch.Generator,
    ) -> Sampling | None:
        """Coarse to fine is for the accelerated solver on the way to its end: a plateau is looked for on all rows."""
        if self.coarse is False:
            return None
        sampling = Sampling.of(blocks.shape, sizes, generator)
        takes_it = self._goes_to_its_end(blocks, weights, rule) and self.stop != "plateau"
        if self.coarse is True and not (takes_it and sampling):
            raise ValueError(
                f"coarse=True needs solver='hals' with inner_sweeps='auto', no plateau to watch for, no missing "
                f"entries, the global objective, and many more rows than columns and components (X is "
                f"{blocks.shape[0]}×{blocks.shape[1]}); leave it at 'auto'"
            )
        return sampling if takes_it and not self.warm_start else None

    def _hopping(
        self,
        blocks: RowBlocks,
        sizes: tuple[int, ...],
        weights: tuple[float, ...] | None,
        rule: Rule,
        generator: torch.Generator,
    ) -> Hopping | None:
        """Hops are for the accelerated solver on complete data, where it stops by its tolerance; by themselves for two
        factors."""
        if self.hops == 0:
            return None
        takes_it = self._goes_to_its_end(blocks, weights, rule) and self.stop == "tolerance"
        if self.hops == "auto":
            return Hopping.of(blocks.shape, generator) if takes_it and len(sizes) == 1 else None
        if not takes_it:
            raise ValueError(
                f"hops={self.hops} needs solver='hals' with inner_sweeps='auto', stop='tolerance', no plateaus to "
                "keep, no missing entries and the global objective; leave it at 'auto'"
            )
        return Hopping(self.hops, generator)

    def _goes_to_its_end(self, blocks: RowBlocks, weights: tuple[float, ...] | None, rule: Rule) -> bool:
        """Whether the accelerated solver may take any way: no plateau is kept, the objective is global, and nothing is
        missing (a sample of rows may have seen nothing of a column)."""
        accelerated = isinstance(rule, Hals) and rule.extrapolates
        return accelerated and not self.keep_plateaus and blocks.observed is None and weights is None

    def _start(
        self,
        blocks: RowBlocks,
        sizes: tuple[int, ...],
        rule: Rule,
        factors: Sequence[Any] | None,
        generator: torch.Generator,
    ) -> Chain:
        if self.init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        if (self.init == "custom") != (factors is not None):
            given = "none were given" if factors is None else f"init is {self.init!r}"
            raise ValueError(f"init='custom' and custom factors go together, but {given}; set both or neither")
        if factors is not None:
            return without_unseen(blocks, Chain(tuple(check_factors(factors, blocks, sizes))))
        if self.warm_start and getattr(self, "factors_", None) is not None:
            return without_unseen(blocks, self._warm_chain(blocks, sizes))
        positive = isinstance(rule, BlockRule) and rule.multiplies
        return Start(sizes, self.init, positive=positive, scale=self.init_scale).chain(blocks, generator)

    def _warm_chain(self, blocks: RowBlocks, sizes: tuple[int, ...]) -> Chain:
        """The fitted factors; for another number of rows, their activations of these rows in place of F₁."""
        W, *rest = (blocks.like(torch.as_tensor(F)) for F in self.factors_)
        if tuple(F.shape[0] for F in rest) != sizes:
            raise ValueError(
                f"warm_start needs the layer sizes of the last fit, {tuple(F.shape[0] for F in rest)}, got {sizes}; "
                "keep them or set warm_start=False"
            )
        if rest[-1].shape[1] != blocks.shape[1]:
            raise ValueError(
                f"warm_start needs the {rest[-1].shape[1]} columns of the last fit, got {blocks.shape[1]}; "
                "fit the same columns or set warm_start=False"
            )
        if len(W) != blocks.shape[0]:
            W = encode(blocks, product(rest), self._penalties(len(sizes) + 1)[0])
        return Chain((W, *rest))

    def _with_codes(self, blocks: RowBlocks, chain: Chain, weights: tuple[float, ...] | None) -> Chain:
        """Layer-wise, the start with codes: the products that they stand for, with ``warm_start`` the fitted ones."""
        if weights is None:
            return chain
        chain = chain.layered(weights)
        codes = [blocks.like(torch.as_tensor(Z)) for Z in getattr(self, "codes_", [])]
        if not (self.warm_start and self.init != "custom" and codes):
            return chain
        return without_unseen(blocks, chain.with_variables((*chain.factors, *codes)))

    def _penalties(self, depth: int) -> tuple[Penalty, ...]:
        l1 = broadcast_per_factor(self.l1, depth, "l1")
        l2 = broadcast_per_factor(self.l2, depth, "l2")
        (separation,) = broadcast_per_factor(self.cosine_separation, 1, "cosine_separation")
        return tuple(
            Penalty(a, b, separation if i == depth - 1 else 0.0) for i, (a, b) in enumerate(zip(l1, l2, strict=True))
        )

    def _keep(self, X: Any, result: Fit, blocks: RowBlocks, rule: Rule, penalties: tuple[Penalty, ...]) -> None:
        failed = result.n_iter + 1 if result.reason == "not_finite" else None
        state = completed(blocks, result.state) if result.state else evaluate(blocks, result.chain)
        self.health_: Health = inspect(state, rule, penalties, not_finite_at=failed)
        self.n_components_ = result.chain.layer_sizes[-1]
        self.n_iter_ = result.n_iter
        self.reconstruction_err_ = squared_error(blocks, result.chain, state.trace) ** 0.5
        del state  # What it knows of A has the size of F₁.
        self._seen_rows = None if blocks.observed is None else blocks.observed.any(1)
        self.heldout_error_ = heldout_error(blocks.A, blocks.observed, result.chain)
        self.history_ = result.history
        self.coarse_ = result.coarse
        if result.coarse is not None:
            self.history_.attrs["coarse"] = asdict(result.coarse)
        self.hops_ = result.hops
        if result.hops is not None:
            self.history_.attrs["hops"] = asdict(result.hops)
        self.factors_ = [_like(X, F) for F in result.chain.factors]
        self.codes_ = [_like(X, Z) for Z in result.chain.codes]
        self.components_ = self.factors_[-1]
        kept = [
            (classify(plateau, self._health_at(plateau, chain, blocks, rule, penalties)), chain)
            for plateau, chain in result.plateaus
        ]
        # One that gave way to another had not converged, however small its gradient was: it lay at a saddle.
        left = [(replace(p, kind="transient") if p.kind == "converged" else p, chain) for p, chain in kept[:-1]]
        kept = [*left, *kept[-1:]]
        self.plateau_factors_ = [[_like(X, F) for F in chain.factors] for _, chain in kept]
        # Finding and naming plateaus costs as much as some iterations, so a fit that was not asked for them waits.
        asked = self.stop == "plateau" or self.keep_plateaus
        self._plateaus = (
            label([plateau for plateau, _ in kept], blocks, max(result.chain.layer_sizes)) if asked else None
        )

    def _health_at(
        self, plateau: Plateau, chain: Chain, blocks: RowBlocks, rule: Rule, penalties: tuple[Penalty, ...]
    ) -> Health:
        """The health at a plateau: at its middle, but at the end of the fit where it lasts that long."""
        return self.health_ if plateau.end >= self.n_iter_ else inspect(evaluate(blocks, chain), rule, penalties)

    @property
    def plateaus_(self) -> list[Plateau]:
        """The plateaus of the effective rank; each with its k after ``stop="plateau"`` or with ``keep_plateaus``."""
        check_is_fitted(self)
        if self._plateaus is None:
            found = detect(self.history_)
            self._plateaus = [classify(p, self.health_) if p.end >= self.n_iter_ else p for p in found]
        return self._plateaus

    def _warn(self, result: Fit) -> None:
        if self.health_.locked:
            warnings.warn(self.health_.messages[0], LockedFitWarning, stacklevel=4)
        if result.reason == "not_finite":
            warnings.warn(self.health_.messages[0], ConvergenceWarning, stacklevel=4)
        wanted = self.plateau if isinstance(self.plateau, int) else 1
        if result.reason == "max_iter" and self.stop == "plateau" and len(result.plateaus) < wanted:
            asked = f"plateau {wanted}" if result.plateaus else "no plateau"
            found = f" was not reached ({len(result.plateaus)} found)" if result.plateaus else ""
            message = (
                f"{asked} of the effective rank{found} within max_iter={self.max_iter}; the last factors are kept; "
                "increase max_iter"
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        if (
            result.reason == "max_iter"
            and self.stop == "tolerance"
            and self.tol > 0
            and self.health_.kkt_residual > self.tol
        ):
            message = (
                f"the KKT residual is {self.health_.kkt_residual:.1e} after max_iter={self.max_iter} iterations, above "
                f"tol={self.tol:g}; increase max_iter or tol"
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=4)


def _like(X: Any, F: Tensor) -> Any:
    """F as X came: a tensor for a tensor, otherwise a C-ordered array."""
    return F.contiguous() if isinstance(X, Tensor) else np.ascontiguousarray(F.cpu().numpy())


def _all(callbacks: Sequence[Callback]) -> Callback | None:
    """One callback that calls them all, and stops when any of them asks to."""
    if not callbacks:
        return None

    def callback(step: int, state: Progress) -> bool:
        answers = [call(step, state) for call in callbacks]
        return any(answers)

    return callback
