"""Data sets as a matrix and its description: four by name, and your own file.

Importing this package touches neither network nor disk, and loading does not touch the network unless
`download=True` says so.
"""

from rankscope.datasets.catalog import DatasetStatus, available, data_path, fetch, load, verify
from rankscope.datasets.digits import load_digits
from rankscope.datasets.files import load_file
from rankscope.datasets.flowers102 import load_flowers102
from rankscope.datasets.info import Data, DatasetInfo
from rankscope.datasets.mnist import load_mnist
from rankscope.datasets.mnist1d import load_mnist1d

__all__ = [
    "Data",
    "DatasetInfo",
    "DatasetStatus",
    "available",
    "data_path",
    "fetch",
    "load",
    "load_digits",
    "load_file",
    "load_flowers102",
    "load_mnist",
    "load_mnist1d",
    "verify",
]
