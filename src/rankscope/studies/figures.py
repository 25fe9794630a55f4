"""The figures of a study, drawn from its run folder alone: the same while it runs, afterwards, and after a kill."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from rankscope import plots
from rankscope.nmf import GenerationScore
from rankscope.runs import Run, read_snapshots
from rankscope.trace import Plateau, RankLevel

Array = NDArray[np.floating]
_MOMENTS = 10  # of the snapshots, in the figure of a fit in motion


def draw_run(folder: Run) -> None:
    """Everything that the folder has the data for: each fit, and all of them compared when there are several."""
    metrics, fits = folder.metrics(), _read_or(folder.json, "fits", {})
    arrays, examples = _read_or(folder.arrays, "factors", {}), _read_or(folder.arrays, "examples", {})
    image_shape = tuple(folder.json("config")["image_shape"])
    histories = {str(name): history.drop(columns="fit") for name, history in metrics.groupby("fit", sort=False)}
    for name, history in histories.items():
        facts = fits.get(name, {})
        plateaus = [Plateau(**plateau) for plateau in facts.get("plateaus", [])]
        levels = [RankLevel(**level) for level in facts.get("levels", [])]
        _save(folder, f"{name}-staircase", plots.staircase(history, plateaus, levels=levels))
        _save(folder, f"{name}-curves", plots.training_curves(history, plateaus))
        factors = _chain(arrays, name)
        if factors and "X" in examples:
            _draw_factors(folder, name, factors, examples, image_shape)
            if f"{name}/samples" in examples:
                grid = plots.sample_grid(
                    examples[f"{name}/samples"], examples["real"], image_shape, score=_score(facts.get("generation"))
                )
                _save(folder, f"{name}-samples", grid)
            stages = {
                f"plateau {k} (effective rank {plateau.level:.2f})": _chain(arrays, f"{name}/plateau{k}")
                for k, plateau in enumerate(plateaus, start=1)
                if f"{name}/plateau{k}/F1" in arrays
            }
            if stages:
                _draw_plateaus(folder, name, {**stages, "final": factors}, examples, image_shape)
        _draw_evolution(folder, name, history, examples.get("X"), image_shape)
    if len(histories) > 1:
        _save(folder, "comparison", plots.comparison(histories))


def _draw_factors(
    folder: Run, name: str, factors: list[Array], examples: dict[str, Array], shape: tuple[int, ...]
) -> None:
    X, rows = examples["X"], examples["rows"]
    _save(folder, f"{name}-factors", plots.factor_heatmaps(factors))
    _save(folder, f"{name}-signatures", plots.signatures(factors[-1], shape))
    made = _rows(factors, rows)
    _save(
        folder,
        f"{name}-reconstructions",
        plots.reconstructions(X, made, shape, indices=range(len(X)), numbers=examples.get("numbers", rows).tolist()),
    )


def _score(generation: Mapping[str, Any] | None) -> GenerationScore | None:
    """The score that fits.json holds, whose NaN is null there; None when a kill came before it."""
    try:
        return GenerationScore(
            **{name: np.nan if value is None else value for name, value in (generation or {}).items()}
        )
    except TypeError:
        return None


def _draw_plateaus(
    folder: Run, name: str, stages: dict[str, list[Array]], examples: dict[str, Array], shape: tuple[int, ...]
) -> None:
    shown = {label: (factors[-1], _rows(factors, examples["rows"])) for label, factors in stages.items()}
    _save(folder, f"{name}-plateaus", plots.plateau_gallery(shown, shape, originals=examples["X"]))


def _draw_evolution(folder: Run, name: str, history: Any, X: Array | None, shape: tuple[int, ...]) -> None:
    """Some of the snapshots, evenly spread over ln(step + 1)."""
    taken = _read_or(lambda fit: read_snapshots(folder, fit), name, None)
    if taken is None or (X is not None and X.shape[1:] != taken.rebuilt.pixels.shape[2:]):
        return
    steps = taken.steps
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(_MOMENTS, len(steps))).round().astype(int))
    ranks = np.interp(steps, history["step"], history["effective_rank"])
    H = taken.signatures[max(taken.signatures)].rows()
    moments, labels = (
        [(H[t], taken.rebuilt[t].rows()) for t in chosen],
        [f"step {steps[t]:,d}\nrank {ranks[t]:.2f}" for t in chosen],
    )
    _save(folder, f"{name}-evolution", plots.evolution(moments, shape, labels=labels, originals=X))


def _chain(arrays: dict[str, Array], prefix: str) -> list[Array]:
    """The factors F1, F2, … under a prefix."""
    depth = sum(key.rpartition("/")[0] == prefix for key in arrays)
    return [arrays[f"{prefix}/F{i}"] for i in range(1, depth + 1)]


def _rows(factors: Sequence[Array], rows: Array) -> Array:
    product = factors[0][rows.astype(np.int64)]
    for F in factors[1:]:
        product = product @ F
    return product


def _read_or(read: Any, name: str, default: Any) -> Any:
    """What a killed run never came to write is simply not drawn."""
    try:
        return read(name)
    except (OSError, ValueError):
        return default


def _save(folder: Run, name: str, axes: Any) -> None:
    figure = np.ravel(axes)[0].figure
    folder.save_figure(name, figure)
    plt.close(figure)
