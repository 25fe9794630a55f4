"""The pictures of one fit: signatures, reconstructions, both at each plateau, and generated rows beside real ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from rankscope.metrics import relative_error
from rankscope.report.contents import FINAL, Contents, Fit, factor_chain
from rankscope.report.images import Picture, highest, image_shape, picture
from rankscope.runs import Run

_BUDGET = 1_200_000  # bytes of pictures on one page
_MOST = {"signatures": 48, "examples": 8, "components": 16, "plateaus": 4, "samples": 12}
_LEAST = {"signatures": 8, "examples": 2, "components": 0, "plateaus": 4, "samples": 0}

Shape = tuple[int, ...] | None
Line = tuple[str, list[Picture]]
Stage = tuple[str, list[np.ndarray]]


@dataclass(frozen=True)
class Strip:
    """A table of pictures: one column for each component or example, one labelled line for each stage."""

    title: str
    about: str
    lines: list[Line]


@dataclass(frozen=True)
class Pictures:
    """What one fit has to show, and one line for each thing that it cannot show."""

    signatures: list[Strip]
    strips: list[Strip]
    notes: list[str]


def fit_pictures(run: Run, contents: Contents, fit: Fit) -> Pictures:
    """Draw what the saved factors and example rows allow."""
    try:
        final = factor_chain(run, fit, FINAL)
    except (OSError, ValueError) as error:
        return Pictures([], [], [str(error)])
    n = final[-1].shape[1]
    shape = image_shape(contents.config.get("image_shape"), n)
    X, rows, notes = _examples(contents, final)
    most = _limits(final, len(contents.fits), shape, stages=len(fit.stages), examples=len(X))
    if not all(np.isfinite(factor).all() for factor in final):
        notes.append("The factors hold NaN or infinite values, drawn here as 0: the fit has diverged.")
    if min(final[-1].shape[0], _MOST["signatures"]) > most["signatures"] or not most["components"]:
        notes.append("Some pictures are left out to keep this page light; the saved factors hold them all.")
    X, rows = X[: most["examples"]], rows[: most["examples"]]
    numbers = contents.examples.get("numbers", rows)[: len(rows)]
    strips = [_reconstructions(final, X, rows, numbers, shape)] if len(rows) else []
    stages = _stages(run, fit, final, most["plateaus"], notes) if most["components"] else []
    if stages:
        stages.append(("final", final))
        strips.append(_signatures_by_stage(stages, shape, most["components"]))
        strips += [_reconstructions_by_stage(stages, X, rows, numbers, shape)] if len(rows) else []
    samples = contents.examples.get(f"{fit.name}/samples", contents.examples.get("samples"))
    real = contents.examples.get("X")
    if most["samples"] and samples is not None and real is not None and samples.ndim == real.ndim == 2:
        strips.append(_generated(samples[: most["samples"]], real[: most["samples"]], shape))
    return Pictures(_signatures(final, shape, most), strips, notes)


def _limits(chain: list[np.ndarray], fits: int, shape: Shape, *, stages: int, examples: int) -> Mapping[str, int]:
    """How many pictures of each sort the page can hold before it grows too heavy."""
    r, n = chain[-1].shape
    shown = min(examples, _MOST["examples"])
    wanted = (len(chain) - 1) * min(r, _MOST["signatures"]) + 3 * shown + 2 * _MOST["samples"]
    wanted += stages * (min(r, _MOST["components"]) + shown)
    # In base64: a curve, a PNG with its palette, a grey PNG.
    weight = 1000 if shape is None else 4 / 3 * (900 + 0.25 * n if len(shape) == 3 else 120 + 0.8 * n)
    share = min(1.0, _BUDGET / (max(fits, 1) * wanted * weight))
    # Fewer than four of a sort say little.
    return {name: count if (count := int(share * most)) >= 4 else _LEAST[name] for name, most in _MOST.items()}


def _signatures(chain: list[np.ndarray], shape: Shape, most: Mapping[str, int]) -> list[Strip]:
    """The rows of H, and for a deeper chain the rows of each F_i … H: what each layer's parts look like."""
    strips = []
    deepest = 1 if most["components"] >= min(len(chain[-1]), _MOST["components"]) // 2 else len(chain) - 1
    for first in range(len(chain) - 1, deepest - 1, -1):
        layer = reduce(np.matmul, chain[first:])
        left = reduce(np.matmul, chain[:first])
        strength = np.linalg.norm(left, axis=0) * np.linalg.norm(layer, axis=1)
        share = np.nan_to_num(strength / max(float(np.nansum(strength)), np.finfo(float).tiny))
        pictures = [
            picture(
                row,
                shape,
                top=highest(row),
                alt=f"Signature {k}, {part:.1%} of the product",
                caption=f"{k} · {part:.0%}" if strength[k - 1] > 0 else f"{k} · dead",
            )
            for k, (row, part) in enumerate(zip(layer, share, strict=True), start=1)
        ]
        name = "H" if first == len(chain) - 1 else " ".join(f"F{i + 1}" for i in range(first, len(chain)))
        about = (
            f"The {len(layer)} rows of {name}, each on its own scale; below each its number and share of the product."
        )
        strips.append(Strip(f"Signatures: rows of {name}", about, [("", pictures[: most["signatures"]])]))
    return strips


def _examples(contents: Contents, chain: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The example rows and where they stand in A, or none and why."""
    X, rows = contents.examples.get("X"), contents.examples.get("rows")
    m, n = chain[0].shape[0], chain[-1].shape[1]
    nothing = np.zeros((0, n)), np.zeros(0, dtype=np.int64)
    if X is None or rows is None:
        return *nothing, ["There are no example rows to reconstruct."]
    usable = X.ndim == 2 and X.shape[1] == n and rows.shape == (len(X),) and rows.dtype.kind in "iu"
    if not usable or (rows.size and not 0 <= rows.min() <= rows.max() < m):
        return *nothing, [f"The example rows do not belong to this fit of a {m}×{n} matrix."]
    return X.astype(np.float64), rows.astype(np.int64), []


def _reconstructions(
    chain: list[np.ndarray], X: np.ndarray, rows: np.ndarray, numbers: np.ndarray, shape: Shape
) -> Strip:
    fitted = _rebuild(chain, rows)
    error = np.abs(X - fitted)
    top, worst = highest(X), highest(error)
    originals = [
        picture(x, shape, top=top, alt=f"Row {row}, original", caption=f"row {row}")
        for x, row in zip(X, numbers, strict=True)
    ]
    rebuilt = [picture(y, shape, top=top, alt=f"Row {row}, rebuilt") for y, row in zip(fitted, numbers, strict=True)]
    errors = [
        picture(
            e,
            shape,
            top=worst,
            colours="magma",
            alt=f"Row {row}, absolute error",
            caption=_error(x, y),
        )
        for e, x, y, row in zip(error, X, fitted, numbers, strict=True)
    ]
    about = (
        f"Originals and reconstructions share one scale, 0 to {top:.3g}; the error map |x − x̂| has its own, black 0 to "
        f"light {worst:.3g}. Below it stands the row's relative error."
    )
    return Strip("Reconstructions", about, [("original", originals), ("rebuilt", rebuilt), ("error", errors)])


def _stages(run: Run, fit: Fit, final: list[np.ndarray], most: int, notes: list[str]) -> list[Stage]:
    """The factors kept at the plateaus, each with its label."""
    stages: list[Stage] = []
    for stage in sorted(stage for stage in fit.stages if stage != FINAL)[:most]:
        try:
            chain = factor_chain(run, fit, stage)
        except (OSError, ValueError) as error:
            notes.append(f"Plateau {stage}: {error}")
            continue
        if [factor.shape for factor in chain] == [factor.shape for factor in final]:
            stages.append((_stage_label(fit, stage), chain))
    return stages


def _signatures_by_stage(stages: list[Stage], shape: Shape, most: int) -> Strip:
    about = "Each column is one row of H, from the first plateau down to the end: watch noise turn into structure."
    lines: list[Line] = [
        (
            label,
            [
                picture(row, shape, top=highest(row), alt=f"Signature {k}, {label}", caption=str(k))
                for k, row in enumerate(chain[-1][:most], start=1)
            ],
        )
        for label, chain in stages
    ]
    return Strip("Signatures at each plateau", about, lines)


def _reconstructions_by_stage(
    stages: list[Stage], X: np.ndarray, rows: np.ndarray, numbers: np.ndarray, shape: Shape
) -> Strip:
    top = highest(X)
    lines: list[Line] = [
        (label, [picture(y, shape, top=top, alt=f"Row {row}, {label}") for y, row in zip(values, numbers, strict=True)])
        for label, values in [("original", X), *((label, _rebuild(chain, rows)) for label, chain in stages)]
    ]
    about = "The same rows, rebuilt with what the fit knew at each plateau."
    return Strip("Reconstructions at each plateau", about, lines)


def _stage_label(fit: Fit, stage: int) -> str:
    facts = fit.plateaus[stage - 1] if stage <= len(fit.plateaus) else {}
    k, level = facts.get("k"), facts.get("level")
    found = [f"rank {level:.2f}" if isinstance(level, int | float) else "", f"k = {k}" if k is not None else ""]
    return ", ".join([f"plateau {stage}", *(part for part in found if part)])


def _generated(samples: np.ndarray, real: np.ndarray, shape: Shape) -> Strip:
    top = highest(real)
    return Strip(
        "Generated rows",
        "New rows drawn from the fitted factors, beside real ones, on one scale.",
        [
            (label, [picture(row, shape, top=top, alt=f"{label} row {i}") for i, row in enumerate(values, start=1)])
            for label, values in (("real", real), ("generated", samples))
        ],
    )


def _rebuild(chain: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    return reduce(np.matmul, [chain[0][rows], *chain[1:]])


def _error(x: np.ndarray, y: np.ndarray) -> str:
    finite = np.isfinite(x).all() and np.isfinite(y).all()
    return f"{relative_error(x[None], y[None]):.2g}" if finite else "NaN"
