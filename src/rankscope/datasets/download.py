"""Download one pinned file: temporary name → hash → final name.

Nothing reaches the final name before its hash was checked (pooch does that), a cut leaves a `.part` file that the next
attempt continues (`resume.py`), and two processes never write the same `.part`.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pooch
from filelock import FileLock, Timeout
from pooch.typing import Downloader

from rankscope.datasets.resume import ResumingDownloader, kept_bytes
from rankscope.datasets.storage import VARIABLE, make_folder
from rankscope.errors import CorruptDataError


@dataclass(frozen=True)
class RemoteFile:
    """A published file: where it is, the MD5 its bytes must have, and how many bytes that is."""

    url: str
    md5: str
    size: int

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def download_file(
    remote: RemoteFile, folder: Path, *, unpacked_size: int = 0, attempts: int = 4, backoff: float = 0.5
) -> Path:
    """Bring `remote` into `folder` and return its path; a file that is already there is checked, never overwritten.

    Args:
        unpacked_size: bytes that the caller will write next, counted in the check of free space.
        attempts: how often to try; each continues where the last was cut.
        backoff: seconds before the second attempt, doubled before every further one.

    Raises:
        CorruptDataError: the bytes are not the published ones; nothing is left under the final name.
        ConnectionError: the server cannot be reached, refuses, or keeps cutting; the `.part` file stays for next time.
        OSError: the folder is not writable or the disk too full.
    """
    path = folder / remote.filename
    if path.exists():
        found = md5_of(path)
        if found != remote.md5:
            raise CorruptDataError(f"{path} must have MD5 {remote.md5}, has {found}; delete it and fetch again")
        return path
    make_folder(folder)
    part = folder / f"{remote.filename}.part"
    try:
        with _locked(part), _quiet_pooch():
            _check_space(folder, remote.size - kept_bytes(part, remote.url) + unpacked_size)
            return _retrieve(remote, path, part, attempts=attempts, backoff=backoff)
    except Timeout as error:
        raise BlockingIOError(f"{path} is being downloaded by another process; wait for it to end") from error


def md5_of(path: Path) -> str:
    """The MD5 of a file's bytes."""
    return pooch.file_hash(str(path), alg="md5")


def _retrieve(remote: RemoteFile, path: Path, part: Path, *, attempts: int, backoff: float) -> Path:
    # A stale `.part` is one honest reason for a wrong hash; a fresh download has no such excuse.
    tries = 2 if kept_bytes(part, remote.url) else 1
    for remaining in reversed(range(tries)):
        # pooch's protocol calls the url `fname` and the output file `action`; pooch itself passes them by position.
        downloader = cast(Downloader, ResumingDownloader(part, remote.size, attempts=attempts, backoff=backoff))
        try:
            pooch.retrieve(remote.url, f"md5:{remote.md5}", fname=path.name, path=path.parent, downloader=downloader)
            break
        except ValueError as error:
            # pooch's own ValueError is a wrong hash; ours already says what is wrong.
            if isinstance(error, CorruptDataError):
                raise
            if not remaining:
                raise CorruptDataError(
                    f"{remote.url} did not have the pinned MD5 {remote.md5}, nothing was kept; "
                    f"try again later or put a good copy at {path}"
                ) from error
    return path


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        found = f"has {free / 1e6:,.0f} MB"
        raise OSError(f"{folder} needs {needed / 1e6:,.0f} MB free, {found}; free some or set {VARIABLE} elsewhere")


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    path = part.with_name(f"{part.name}.lock")
    with FileLock(path, timeout=0):
        try:
            yield
        finally:
            # Windows does not delete a file that is open; a leftover lock file is harmless.
            with suppress(OSError):
                path.unlink()


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    # Pooch announces every file on stderr; here that is the caller's business.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
