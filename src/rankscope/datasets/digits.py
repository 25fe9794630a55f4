"""Digits: 1,797 handwritten digits of 8 × 8 pixels, part of scikit-learn, so no network is ever needed.

Reference: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.
DOI 10.24432/C50P49.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rankscope.datasets.info import Data, DatasetInfo

NAME = "digits"
SOURCE = (
    "Digits. Alpaydin, Kaynak (1998), Optical recognition of handwritten digits, UCI Machine Learning Repository, "
    "doi:10.24432/C50P49. The copy in scikit-learn"
)


def load_digits() -> Data:
    """The 1,797 images, one flattened 8 × 8 image a row, float32 in [0, 1] (the counts 0..16 over 16)."""
    # Here, because it takes a second and `rankscope data` does not need it.
    from sklearn import datasets  # noqa: PLC0415

    pixels, labels = datasets.load_digits(return_X_y=True)
    X = np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(16)
    return Data(X, DatasetInfo(NAME, (8, 8), SOURCE, np.asarray(labels, np.int64)))


def digits_folder() -> Path:
    """The folder inside scikit-learn that holds the digits."""
    spec = find_spec("sklearn")
    assert spec is not None and spec.origin is not None  # a dependency
    return Path(spec.origin).parent / "datasets" / "data"


def verify_digits() -> tuple[Path, ...]:
    """Nothing to hash: scikit-learn's installer did."""
    return ()
