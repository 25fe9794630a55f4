"""The data sets by name: load one, and what `rankscope data list|fetch|verify|path` does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankscope.datasets.digits import digits_folder, load_digits, verify_digits
from rankscope.datasets.files import SUFFIXES, load_file
from rankscope.datasets.flowers102 import (
    fetch_flowers102,
    flowers102_folder,
    flowers102_present,
    load_flowers102,
    verify_flowers102,
)
from rankscope.datasets.info import Data
from rankscope.datasets.mnist import fetch_mnist, load_mnist, mnist_folder, mnist_present, verify_mnist
from rankscope.datasets.mnist1d import fetch_mnist1d, load_mnist1d, mnist1d_folder, mnist1d_present, verify_mnist1d
from rankscope.datasets.storage import data_root
from rankscope.errors import CorruptDataError


@dataclass(frozen=True)
class DatasetStatus:
    """One line of `rankscope data list`; `present` means that loading it neither downloads nor generates."""

    name: str
    present: bool
    needs_network: bool
    size: str
    folder: Path


@dataclass(frozen=True)
class _Entry:
    fetch: Callable[[], Path]
    verify: Callable[[], tuple[Path, ...]]
    present: Callable[[], bool]
    folder: Callable[[], Path]
    needs_network: bool
    size: str


_ENTRIES = {
    "digits": _Entry(digits_folder, verify_digits, lambda: True, digits_folder, False, "in scikit-learn"),
    "mnist1d": _Entry(
        fetch_mnist1d, verify_mnist1d, mnist1d_present, mnist1d_folder, False, "3 MB, generated in seconds"
    ),
    "mnist": _Entry(fetch_mnist, verify_mnist, mnist_present, mnist_folder, True, "12 MB"),
    "flowers102": _Entry(
        fetch_flowers102, verify_flowers102, flowers102_present, flowers102_folder, True, "345 MB, 700 MB unpacked"
    ),
}
NAMES = tuple(_ENTRIES)


def load(name_or_path: str | Path, *, resize: tuple[int, int] | None = None, download: bool = False) -> Data:
    """A data set by name ("digits", "mnist1d", "mnist", "flowers102"), or a user's .npy, .npz or .csv.

    Args:
        resize: (height, width), for mnist and flowers102 only; None is their own default.
        download: fetch mnist or flowers102 if they are absent; nothing else ever touches the network.

    Raises:
        ValueError: no such name, or `resize` for data that has no images to resize.
        MissingDataError, CorruptDataError: as the loader of that name.
    """
    match str(name_or_path):
        case "mnist":
            return load_mnist((28, 28) if resize is None else resize, download=download)
        case "flowers102":
            return load_flowers102((64, 64) if resize is None else resize, download=download)
    if resize is not None:
        raise ValueError(f"resize applies to mnist and flowers102, got {resize} for {name_or_path}; leave it out")
    match str(name_or_path):
        case "digits":
            return load_digits()
        case "mnist1d":
            return load_mnist1d()
    path = Path(name_or_path)
    if path.suffix not in SUFFIXES and not path.exists():
        raise ValueError(_unknown(name_or_path) + f", or a file {' '.join(SUFFIXES)}")
    return load_file(path)


def available() -> list[DatasetStatus]:
    """What there is, what of it is on this machine, and where."""
    return [
        DatasetStatus(name, _is_present(entry), entry.needs_network, entry.size, entry.folder())
        for name, entry in _ENTRIES.items()
    ]


def fetch(name: str) -> Path:
    """Download (or generate) what is absent of a data set; the folder it is in.

    Raises:
        ValueError: no such name.
        CorruptDataError: a file that is here, or that arrived, is not the published one.
        OSError: no network, a server that refuses, a folder that cannot be written, a full disk.
    """
    return _entry(name).fetch()


def verify(name: str) -> tuple[Path, ...]:
    """Hash the files of a data set again; the paths that were checked (none for digits).

    Raises:
        ValueError: no such name.
        MissingDataError: it is not here.
        CorruptDataError: a file is not the published one.
    """
    return _entry(name).verify()


def data_path(name: str | None = None) -> Path:
    """The folder of one data set, or the root of all."""
    return data_root() if name is None else _entry(name).folder()


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise ValueError(_unknown(name))
    return _ENTRIES[name]


def _unknown(name: str | Path) -> str:
    return f"unknown data set {str(name)!r}; use {', '.join(NAMES)}"


def _is_present(entry: _Entry) -> bool:
    try:
        return entry.present()
    except CorruptDataError:
        # A broken file is `verify`'s to explain; the list must still list.
        return False
