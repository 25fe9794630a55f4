"""Resize images without cropping, and read photographs without trusting them.

Resizing is Pillow's bilinear filter with antialiasing. It is separable and linear, so a stack of equal images Z is
resized as M_h Z M_wᵀ with two small matrices: the filter applied to the identity.
"""

import operator
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rankscope.datasets.storage import corrupt

# A photograph of Flowers102 has 0.3 to 1 million pixels; past this it is a decompression bomb.
MAX_PIXELS = 2**24
_CHUNK = 4096


def checked_size(resize: tuple[int, int]) -> tuple[int, int]:
    """(height, width) as two positive ints, or a ValueError."""
    try:
        height, width = (operator.index(side) for side in resize)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"resize must be (height, width), two positive integers, got {resize!r}; try (28, 28)")
    return height, width


def flatten_gray(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Gray bytes (n × h × w) to rows in [0, 1] (n × height·width), resized when the size differs."""
    n, h, w = images.shape
    height, width = size
    X = np.empty((n, height * width), np.float32)
    if (h, w) == size:
        return np.divide(images.reshape(n, h * w), np.float32(255), out=X)
    M_h, M_w = interpolation(h, height), interpolation(w, width)
    for start in range(0, n, _CHUNK):
        Z = images[start : start + _CHUNK].astype(np.float32)
        X[start : start + _CHUNK] = (M_h @ Z @ M_w.T).reshape(len(Z), -1)
    X /= np.float32(255)
    # The weights of a pixel sum to one only to rounding.
    return np.clip(X, 0, 1, out=X)


def interpolation(length: int, new_length: int) -> NDArray[np.float32]:
    """The matrix M (new_length × length) with M z = z resized by Pillow's antialiased bilinear filter."""
    identity = Image.fromarray(np.eye(length, dtype=np.float32))
    return np.asarray(identity.resize((length, new_length), Image.Resampling.BILINEAR))


def read_photograph(path: Path, size: tuple[int, int], *, name: str) -> NDArray[np.float32]:
    """One JPEG as (3 × height × width) in [0, 1].

    Raises:
        CorruptDataError: not a JPEG, truncated, or more than `MAX_PIXELS` pixels (checked before decoding).
    """
    height, width = size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Only JPEG: Pillow would hand other formats to far larger parsers.
            with Image.open(path, formats=("JPEG",)) as photograph:
                pixels = photograph.width * photograph.height
                if pixels > MAX_PIXELS:
                    raise corrupt(path, f"must have at most {MAX_PIXELS:,} pixels, announces {pixels:,}", name)
                resized = photograph.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise corrupt(path, f"is not a whole JPEG image ({error})", name) from error
    return np.asarray(resized, np.float32).transpose(2, 0, 1) / np.float32(255)
