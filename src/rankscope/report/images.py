"""Turn a row of data into something a page can show: a PNG when the row is an image, a small curve when it is not."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from matplotlib import colormaps
from PIL import Image

_WIDTH, _HEIGHT, _POINTS = 100, 40, 160  # of a curve, in its own units


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, or else a curve as the points of an SVG polyline in a 100 × 40 box."""

    alt: str
    src: str = ""
    points: str = ""
    caption: str = ""


def image_shape(value: object, n: int) -> tuple[int, ...] | None:
    """The shape (h, w), (1, h, w) or (3, h, w) that a row of n values has, or None when it is not an image."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(side, int) for side in value):
        return None
    shape = tuple(value)
    fits = len(shape) == 2 or (len(shape) == 3 and shape[0] in {1, 3})
    return shape if fits and prod(shape) == n and min(shape) > 0 else None


def picture(
    row: np.ndarray, shape: tuple[int, ...] | None, *, top: float, alt: str, caption: str = "", colours: str = "gray"
) -> Picture:
    """Draw one row on the scale 0 … top; colour images in colour unless `colours` names another map than gray."""
    scaled = np.clip(np.nan_to_num(row / top if top > 0 else np.zeros_like(row)), 0, 1)
    if shape is None:
        return Picture(alt=alt, caption=caption, points=_polyline(scaled))
    image = scaled.reshape(shape)
    if image.ndim == 3 and image.shape[0] == 3 and colours == "gray":
        pixels = np.moveaxis(image, 0, -1)
    else:
        grey = image if image.ndim == 2 else image.mean(axis=0)
        pixels = grey if colours == "gray" else colormaps[colours](grey)[..., :3]
    return Picture(alt=alt, caption=caption, src=data_uri(png(np.rint(255 * pixels).astype(np.uint8))))


def png(pixels: np.ndarray) -> bytes:
    """An h×w array of bytes as a grey PNG, an h×w×3 one as a PNG of its 256 best colours: a third of the bytes."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    drawn = image if pixels.ndim == 2 else image.quantize(256, dither=Image.Dither.NONE)
    drawn.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def highest(*arrays: np.ndarray) -> float:
    """The largest finite value, at least 0: the top of a common scale."""
    finite = [array[np.isfinite(array)] for array in arrays]
    return max((float(values.max()) for values in finite if values.size), default=0.0)


def envelope(values: np.ndarray) -> np.ndarray:
    """The values to draw a curve by: where it is long, the smallest and the largest of each stretch."""
    if values.size <= _POINTS:
        return values
    stretches = np.array_split(values, _POINTS // 2)
    return np.array([end for stretch in stretches for end in (stretch.min(), stretch.max())], dtype=values.dtype)


def _polyline(scaled: np.ndarray) -> str:
    values = envelope(scaled)
    x = np.linspace(1, _WIDTH - 1, values.size) if values.size > 1 else np.array([_WIDTH / 2])
    y = (_HEIGHT - 2) - (_HEIGHT - 4) * values
    return " ".join(f"{a:.3g},{b:.3g}" for a, b in zip(x, y, strict=True))
