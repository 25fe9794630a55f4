"""What every loader gives back: the matrix, and what a reader must know to understand it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class DatasetInfo:
    """What the rows of X are.

    Attributes:
        name: "mnist", "flowers102", "digits", "mnist1d", or the name of a file.
        shape: shape of one row as an image or signal; colour images are channels first. Its product is X.shape[1].
        source: where the data came from and whom to cite.
        labels: one integer a row, or None.
    """

    name: str
    shape: tuple[int, ...]
    source: str
    labels: NDArray[np.integer] | None = field(default=None, repr=False)


class Data(NamedTuple):
    """A data set: X (n_rows × n_columns, C-contiguous floats, one flattened sample a row) and its description."""

    X: NDArray[np.floating]
    dataset: DatasetInfo
