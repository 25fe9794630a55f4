"""A fit at some of its steps, small enough to keep: its signatures and a few rebuilt rows, a byte a number.

row ≈ top · pixels / 255,  top = max(row):  off by at most top/510, whatever the scale of the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankscope.runs.folder import Run

FILE = "snapshots"
_LAYER = "signatures"


@dataclass(frozen=True)
class Pictures:
    """Nonnegative rows to eight bits, each on its own scale: pixels (…, k, n) and top (…, k)."""

    pixels: NDArray[np.uint8]
    top: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Self:
        """The rows (…, k, n) rounded; what is negative becomes 0."""
        values = np.asarray(rows, dtype=np.float64)
        top = values.max(-1)
        scale = np.divide(255.0, top, out=np.zeros_like(top), where=top > 0)
        return cls(np.rint((values * scale[..., None]).clip(0, 255)).astype(np.uint8), top.astype(np.float32))

    def rows(self) -> NDArray[np.float64]:
        """The rows as numbers again."""
        return self.pixels * (self.top.astype(np.float64) / 255)[..., None]

    def __getitem__(self, moment: slice | int) -> Self:
        return type(self)(self.pixels[moment], self.top[moment])


@dataclass(frozen=True)
class Snapshots:
    """One fit at T steps, in order.

    Attributes:
        steps: (T,).
        signatures: by layer i, from the last: the rows of F_i … F_L, pixels (T, k, n).
        rebuilt: what the product makes of the example rows, pixels (T, k, n).
    """

    steps: NDArray[np.int64]
    signatures: Mapping[int, Pictures]
    rebuilt: Pictures

    def arrays(self, fit: str) -> dict[str, NDArray]:
        """Everything by the names it has in snapshots.safetensors."""
        named = {f"{_LAYER}{layer}": pictures for layer, pictures in self.signatures.items()}
        arrays: dict[str, NDArray] = {f"{fit}/steps": self.steps}
        for name, pictures in {**named, "rebuilt": self.rebuilt}.items():
            arrays |= {f"{fit}/{name}": pictures.pixels, f"{fit}/{name}/top": pictures.top}
        return arrays


def read_snapshots(run: Run, fit: str) -> Snapshots | None:
    """The snapshots of a fit; None when the run kept none of it.

    Raises:
        ValueError: the file is damaged, or its arrays do not belong together.
        OSError: there is no file, or it cannot be read.
    """
    names = [name for name in run.array_names(FILE) if name.startswith(f"{fit}/")]
    if not names:
        return None
    arrays = run.arrays(FILE, only=names)
    layers = [name.removeprefix(f"{fit}/{_LAYER}") for name in names if name.startswith(f"{fit}/{_LAYER}")]
    layers = sorted((int(layer) for layer in layers if layer.isdigit()), reverse=True)
    try:
        pictures = {
            name: Pictures(arrays[f"{fit}/{name}"], arrays[f"{fit}/{name}/top"])
            for name in (*(f"{_LAYER}{layer}" for layer in layers), "rebuilt")
        }
        snapshots = Snapshots(
            arrays[f"{fit}/steps"],
            {layer: pictures[f"{_LAYER}{layer}"] for layer in layers},
            pictures["rebuilt"],
        )
    except KeyError as error:
        raise ValueError(
            f"{FILE}.safetensors must hold all of a fit, but {error} is missing; do the run again"
        ) from None
    _check(snapshots, fit)
    return snapshots


def _check(snapshots: Snapshots, fit: str) -> None:
    moments, groups = len(snapshots.steps), [*snapshots.signatures.values(), snapshots.rebuilt]
    columns = snapshots.rebuilt.pixels.shape[-1]
    whole = (
        snapshots.steps.ndim == 1 and snapshots.steps.dtype.kind == "i" and bool((np.diff(snapshots.steps) > 0).all())
    )
    for group in groups:
        shape = group.pixels.shape
        whole = whole and group.pixels.dtype == np.uint8 and group.pixels.ndim == 3 and group.top.shape == shape[:2]
        whole = whole and shape[0] == moments and shape[2] == columns and bool(np.isfinite(group.top).all())
    if not whole or not snapshots.signatures:
        shapes = " · ".join("×".join(map(str, group.pixels.shape)) for group in groups)
        raise ValueError(f"The snapshots of {fit} do not belong together: {moments} steps, pictures {shapes}")
