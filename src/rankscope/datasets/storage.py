"""Where data sets live, and the two sentences said when one is absent or broken.

The root is `$RANKSCOPE_DATA` when that is set, otherwise the user's cache folder. Inside it the layout is torchvision's
(`MNIST/raw/…`, `flowers-102/…`), so copies that are already on the machine are found. Nothing is written in the root
unless a download was asked for; what Rankscope generates for itself goes to the user's cache folder.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path

from rankscope.errors import CorruptDataError, MissingDataError

VARIABLE = "RANKSCOPE_DATA"


def data_root() -> Path:
    """The folder that holds the data sets: `$RANKSCOPE_DATA`, or the user's cache folder."""
    chosen = os.environ.get(VARIABLE, "")
    return Path(chosen).expanduser().absolute() if chosen else cache_root()


def cache_root() -> Path:
    """The user's cache folder, for what is generated rather than downloaded."""
    return user_cache_path("rankscope", appauthor=False)


def missing(name: str, folder: Path, files: str) -> MissingDataError:
    """The error for a data set that is not on this machine."""
    return MissingDataError(
        f"{name} is not in {folder}: put {files} there, or run `rankscope data fetch {name}` (needs a network); "
        "digits and mnist1d need none"
    )


def corrupt(path: Path, why: str, name: str) -> CorruptDataError:
    """The error for a file of a known data set that cannot be trusted: `why` follows the path in the sentence."""
    return CorruptDataError(f"{path} {why}; delete it and run `rankscope data fetch {name}`")


def make_folder(folder: Path) -> None:
    """Create a folder for downloads, or say in one line why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise PermissionError(_unwritable(folder, error.strerror or type(error).__name__)) from error
    if not writable:
        raise PermissionError(_unwritable(folder, "read-only"))


def _unwritable(folder: Path, reason: str) -> str:
    return f"downloads need a writable folder, {folder} is not ({reason}); set {VARIABLE} to one that is"
