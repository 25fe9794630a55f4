"""Writing a study down while it runs, so that a kill loses seconds and not hours."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankscope.metrics import effective_rank, nuclear_over_operator, relative_error
from rankscope.nmf import generation_score
from rankscope.nmf.base import ChainEstimator
from rankscope.nmf.fit import Progress
from rankscope.runs import Run
from rankscope.studies.camera import Camera
from rankscope.trace import RankLevel

WRITE_EVERY = 2.0
"""Seconds between two looks at what is new: rows of history, and the factors as they are."""
EXAMPLES = 6
"""Rows whose reconstruction is shown."""
SAMPLES = 16
"""Generated rows that are shown, beside as many real ones."""


class Recorder:
    """Fits models to X, and keeps the metrics, factors, snapshots, examples and facts of a run folder up to date."""

    def __init__(self, folder: Run, X: NDArray[np.floating], levels: Sequence[RankLevel], *, first: int = 0) -> None:
        self.folder = folder
        self.X = X
        self._levels = [level._asdict() for level in levels]
        self._factors: dict[str, Any] = {}
        self._snapshots: dict[str, Any] = {}
        self._fits: dict[str, dict[str, Any]] = {}
        self._written: dict[str, int] = {}
        rows, real = _spread(len(X), EXAMPLES), _spread(len(X), SAMPLES)
        # Rows by their place in X, and by their number in the data that X is a part of.
        self._examples = {"X": X[rows], "rows": rows, "numbers": rows + first, "real": X[real]}
        folder.save_arrays("examples", self._examples)

    def fit(self, name: str, model: ChainEstimator, *, seed: int) -> None:
        """Fit the model, writing as it goes; interrupted, what was done is written too."""
        self._note(name, {"levels": self._levels})
        last = time.monotonic()
        camera = Camera(self._examples["rows"], max_iter=model.max_iter)

        def write(step: int, state: Progress) -> None:
            nonlocal last
            if camera.due(step):
                camera.take(step, state.factors)
            if time.monotonic() - last > WRITE_EVERY:
                self._save(name, state.history, state.factors, [])
                self._save_snapshots(name, camera)
                last = time.monotonic()

        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.set_params(callback=write).fit(self.X)
            self._note(name, {"warnings": [str(warning.message) for warning in caught]})
        finally:
            if getattr(model, "factors_", None) is not None:
                self._save(name, model.history_, model.factors_, model.plateau_factors_)
                if not (model.stop == "plateau" and model.plateau_factors_):  # Those kept are of a step before the end.
                    camera.take(model.n_iter_, model.factors_)
                self._save_snapshots(name, camera)
                self._note(name, describe(model, self.X))
        self._generate(name, model, seed)

    def line(self, name: str) -> str:
        """One line on a fit that has ended."""
        fit = self._fits[name]
        line = (
            f"{name}: {fit['n_iter']} iterations in {fit['seconds']:.1f} s, relative error "
            f"{fit['relative_error']:.4f}, effective rank {fit['effective_rank']:.2f}"
        )
        return "; ".join([line, *fit["warnings"]])

    def table(self) -> pd.DataFrame:
        """The fits side by side, a row each."""
        rows = []
        for name, fit in self._fits.items():
            generation = fit.get("generation", {})
            columns = ("n_iter", "seconds", "relative_error", "effective_rank", "nuclear_over_operator", "kkt_residual")
            rows.append(
                {
                    "fit": name,
                    **{column: fit[column] for column in columns},
                    "plateaus": len(fit["plateaus"]),
                    "health": "ok" if fit["health"]["ok"] else "; ".join(fit["health"]["messages"]),
                    "precision": generation.get("precision"),
                    "recall": generation.get("recall"),
                }
            )
        return pd.DataFrame(rows)

    def _save(
        self, name: str, history: pd.DataFrame, factors: Sequence[Any], plateaus: Sequence[Sequence[Any]]
    ) -> None:
        new = history.iloc[self._written.get(name, 0) :]
        if len(new):
            self.folder.append_metrics(name, new)
            self._written[name] = len(history)
        chains = {name: factors} | {f"{name}/plateau{k}": chain for k, chain in enumerate(plateaus, start=1)}
        self._factors |= {f"{key}/F{i}": F for key, chain in chains.items() for i, F in enumerate(chain, start=1)}
        self.folder.save_arrays("factors", self._factors)

    def _save_snapshots(self, name: str, camera: Camera) -> None:
        snapshots = camera.snapshots()
        if snapshots is not None and len(snapshots.steps) > len(self._snapshots.get(f"{name}/steps", ())):
            self._snapshots |= snapshots.arrays(name)
            self.folder.save_arrays("snapshots", self._snapshots)

    def _note(self, name: str, findings: Mapping[str, Any]) -> None:
        self._fits[name] = {**self._fits.get(name, {}), **findings}
        self.folder.save_json("fits", self._fits)

    def _generate(self, name: str, model: ChainEstimator, seed: int) -> None:
        """New rows, and their score against what the fit makes of the real ones."""
        made = model.inverse_transform(model.factors_[0])
        score = generation_score(model.sample(1000, random_state=seed), made, np.random.default_rng(seed))
        self._note(name, {"generation": score._asdict()})
        self._examples[f"{name}/samples"] = model.sample(SAMPLES, random_state=seed)
        self.folder.save_arrays("examples", self._examples)


def describe(model: ChainEstimator, X: NDArray[np.floating]) -> dict[str, Any]:
    """What fits.json says of a model fitted to X: of the factors it kept, which on a plateau are not the last."""
    last = model.history_.iloc[-1]
    found = {name: float(last[name]) for name in ("relative_error", "effective_rank", "nuclear_over_operator")}
    if model.stop == "plateau" and model.plateau_factors_:
        found = {
            "relative_error": float(relative_error(X, model.factors_)),
            "effective_rank": float(effective_rank(model.factors_)),
            "nuclear_over_operator": float(nuclear_over_operator(model.factors_)),
        }
    health = asdict(model.health_)
    return {
        "n_iter": model.n_iter_,
        "seconds": float(last["seconds"]),
        **found,
        "kkt_residual": model.health_.kkt_residual,
        "converged": model.health_.kkt_residual <= model.tol,
        "plateaus": [asdict(plateau) for plateau in model.plateaus_],
        "health": {"ok": model.health_.ok, "locked": model.health_.locked, **health},
    }


def _spread(m: int, most: int) -> NDArray[np.integer]:
    """At most that many row numbers, evenly spread over m."""
    return np.linspace(0, m - 1, min(most, m)).round().astype(np.int64)
