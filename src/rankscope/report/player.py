"""A fit in motion: its signatures and rebuilt rows at every logged step, as sheets of pictures a slider walks over.

A sheet is one PNG: line t holds the pictures of stop t side by side, so a stop costs the page no request and no script
of its own. Rows that are no images are sent as bytes and drawn as curves.
"""

import base64
import json
from dataclasses import dataclass

import numpy as np

from rankscope.report.charts import spans
from rankscope.report.contents import Contents, Fit
from rankscope.report.images import Picture, data_uri, envelope, highest, image_shape, picture, png
from rankscope.report.strips import Shape, Strip
from rankscope.report.tables import number
from rankscope.runs import Pictures, Run, Snapshots, read_snapshots

_BUDGET = 2_000_000  # bytes of all sheets of one page
_LEAST = 4  # signatures of a layer, before stops are left out
_STILL, _PLATEAUS = 10, 3  # pictures in a line that stands still, and plateaus among its lines
_APART = 3.5  # percent of the slider between two numbers under it


@dataclass(frozen=True)
class Sheet:
    """One group of pictures at all stops: `src` holds them as images, or `curves` as bytes, `width` for each."""

    title: str
    names: list[str]
    width: int
    height: int
    src: str = ""
    curves: str = ""


@dataclass(frozen=True)
class Mark:
    """Something under the slider, in percent of its length; a width of 0 is a tick."""

    left: float
    width: float
    text: str


@dataclass(frozen=True)
class Player:
    """What the page plays: a stop for each snapshot, and some of them standing still for a page without a script."""

    steps: str  # JSON, as the script reads it
    said: str
    stops: int
    last: str
    sheets: list[Sheet]
    originals: list[Picture]
    rebuilt: Sheet
    marks: list[Mark]
    stills: list[Strip]


def fit_player(run: Run, contents: Contents, fit: Fit) -> Player | str:
    """The player of a fit, or a line that says why there is none."""
    try:
        taken = read_snapshots(run, fit.name)
    except FileNotFoundError:
        return "There is nothing to play: snapshots.safetensors is missing."
    except (OSError, ValueError) as error:
        return f"There is nothing to play: {error}."
    if taken is None:
        return "There is nothing to play: no snapshot of this fit was kept."
    shape = image_shape(contents.config.get("image_shape"), taken.rebuilt.pixels.shape[-1])
    X, top = _originals(contents, taken)
    shots = _fitting(taken, shape, len(contents.fits))
    said = [_says(fit, int(step)) for step in shots.steps]
    return Player(
        steps=json.dumps(shots.steps.tolist()),
        said=json.dumps(said, ensure_ascii=False),
        stops=len(said),
        last=said[-1],
        sheets=[
            _sheet(_title(layer, shots), pictures.pixels, shape, "Signature")
            for layer, pictures in shots.signatures.items()
        ],
        originals=[picture(x, shape, top=top, alt=f"Original {i}") for i, x in enumerate(X, start=1)],
        rebuilt=_sheet("reconstructions", _on_one_scale(shots.rebuilt, top), shape, "Reconstruction"),
        marks=_marks(fit, shots.steps),
        stills=_stills(fit, shots, X, top, shape),
    )


def _fitting(taken: Snapshots, shape: Shape, fits: int) -> Snapshots:
    """As many signatures as the page can hold at every stop, and where four are too many, fewer stops."""
    n = taken.rebuilt.pixels.shape[-1]
    # In base64, as a sheet compresses: a curve, a pixel of a palette, a grey one.
    weight = 4 / 3 * (min(n, 160) if shape is None else 0.3 * n if len(shape) == 3 and shape[0] == 3 else 0.7 * n)
    room = _BUDGET / max(fits, 1) / weight
    rebuilt, layers = taken.rebuilt.pixels.shape[1], len(taken.signatures)
    most = max(_LEAST, int((room / len(taken.steps) - rebuilt) / layers))
    cost = len(taken.steps) * (sum(min(most, p.pixels.shape[1]) for p in taken.signatures.values()) + rebuilt)
    every = max(1, int(np.ceil(cost / room)))
    stops = slice((len(taken.steps) - 1) % every, None, every)  # the last is one of them
    signatures = {layer: Pictures(p.pixels[stops, :most], p.top[stops, :most]) for layer, p in taken.signatures.items()}
    return Snapshots(taken.steps[stops], signatures, taken.rebuilt[stops])


def _originals(contents: Contents, taken: Snapshots) -> tuple[np.ndarray, float]:
    """The example rows that are rebuilt and the top of their scale; none where they do not belong to the snapshots."""
    X, (_, k, n) = contents.examples.get("X"), taken.rebuilt.pixels.shape
    if X is None or X.ndim != 2 or X.shape[1] != n or len(X) < k:
        return np.zeros((0, n)), float(taken.rebuilt.top.max())
    return X[:k].astype(np.float64), highest(X)


def _on_one_scale(pictures: Pictures, top: float) -> np.ndarray:
    scale = 255 / top if top > 0 else 0.0
    return np.rint((pictures.rows() * scale).clip(0, 255)).astype(np.uint8)


def _sheet(title: str, pixels: np.ndarray, shape: Shape, name: str) -> Sheet:
    """Bytes (T, k, n) as one picture, a line of k for each of the T stops."""
    stops, k, n = pixels.shape
    names = [f"{name} {i}" for i in range(1, k + 1)]
    if shape is None:
        curves = np.array([[envelope(row) for row in moment] for moment in pixels])
        return Sheet(title, names, curves.shape[-1], 1, curves=base64.b64encode(curves.tobytes()).decode())
    h, w = shape[-2:]
    tiles = pixels.reshape(stops, k, n // (h * w), h, w)
    whole = tiles.transpose(0, 3, 1, 4, 2).reshape(stops * h, k * w, -1)
    return Sheet(
        title, names, w, h, src=data_uri(png(np.ascontiguousarray(whole if whole.shape[2] == 3 else whole[..., 0])))
    )


def _title(layer: int, shots: Snapshots) -> str:
    depth = max(shots.signatures)
    name = "H" if layer == depth else " ".join(f"F{i}" for i in range(layer, depth + 1))
    return f"rows of {name}"


def _says(fit: Fit, step: int) -> str:
    """What the curve says at a step, in one line."""
    rank, error = (number(_reading(fit, step, name)) for name in ("effective_rank", "relative_error"))
    return f"step {step:,d} · effective rank {rank} · relative error {error}"


def _reading(fit: Fit, step: int, name: str) -> float | None:
    """The curve at a step, or at the first that was logged after it."""
    place = int(np.searchsorted(fit.curve["step"], step))
    return float(fit.curve[name].iloc[place]) if place < len(fit.curve) else None


def _marks(fit: Fit, steps: np.ndarray) -> list[Mark]:
    """Plateaus as bands, and as ticks the steps from which the effective rank stays above that of A_k."""
    if len(steps) < 2:
        return []

    def place(step: float) -> float:
        return float(100 * np.interp(np.log1p(step), np.log1p(steps), np.linspace(0, 1, len(steps))))

    bands = [Mark(place(start), place(end) - place(start), text) for start, end, text in spans(fit.plateaus)]
    ticks: list[Mark] = []
    for level in fit.levels:
        step = _reached(fit, level.get("effective_rank"))
        if step is not None and (not ticks or place(step) - ticks[-1].left >= _APART):
            ticks.append(Mark(place(step), 0.0, str(level.get("k", "?"))))
    return [*bands, *ticks]


def _reached(fit: Fit, level: object) -> float | None:
    """The step from which the effective rank stays at or above a level; None when it never lay below or still does."""
    if not isinstance(level, int | float) or not len(fit.curve):
        return None
    below = np.flatnonzero(~(fit.curve["effective_rank"].to_numpy() >= level))
    return None if not below.size or below[-1] == len(fit.curve) - 1 else float(fit.curve["step"].iloc[below[-1] + 1])


def _stills(fit: Fit, shots: Snapshots, X: np.ndarray, top: float, shape: Shape) -> list[Strip]:
    """The first stop, those nearest to plateaus, and the last."""
    middles = [np.sqrt((start + 1) * (end + 1)) - 1 for start, end, _ in spans(fit.plateaus)[:_PLATEAUS]]
    near = [int(np.abs(np.log1p(shots.steps) - np.log1p(middle)).argmin()) for middle in middles]
    stops = sorted({0, *near, len(shots.steps) - 1})
    layer = max(shots.signatures)
    signatures, rebuilt = shots.signatures[layer].pixels, _on_one_scale(shots.rebuilt, top)
    drawn = [("Signatures", signatures), ("Reconstructions", rebuilt)]
    strips = []
    for title, pixels in drawn:
        lines = [(_stop(fit, int(shots.steps[t])), _line(pixels[t, :_STILL], shape, title)) for t in stops]
        if title == "Reconstructions" and len(X):
            scaled = np.rint(255 * (X / max(top, np.finfo(float).tiny)).clip(0, 1))
            lines.insert(0, ("original", _line(scaled, shape, "Originals")))
        strips.append(Strip(f"{title} at some logged steps", "", lines))
    return strips


def _stop(fit: Fit, step: int) -> str:
    return f"step {step:,d}, rank {number(_reading(fit, step, 'effective_rank'))}"


def _line(pixels: np.ndarray, shape: Shape, title: str) -> list[Picture]:
    name = title.removesuffix("s")
    return [picture(row, shape, top=255.0, alt=f"{name} {i}") for i, row in enumerate(pixels, start=1)]
