"""Unpack a .tgz of images without trusting it.

Only plain files whose whole name matches a pattern are written, each under its own base name, and only after the whole
archive was read: a path with `..`, an absolute one, a link, a device, a file too many or too large refuses it all.
"""

import gzip
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rankscope.datasets.storage import corrupt


@dataclass(frozen=True)
class Allowed:
    """What an archive may hold.

    Attributes:
        folder: the one folder its files are in.
        pattern: the whole base name of a file, without any separator.
        files, file_bytes, total_bytes: how many, how large one, how large together.
    """

    folder: str
    pattern: re.Pattern[str]
    files: int
    file_bytes: int
    total_bytes: int


def unpack(archive: Path, folder: Path, allowed: Allowed, *, name: str) -> int:
    """Put the files of `archive` that `folder` lacks into it; how many were added.

    Raises:
        CorruptDataError: the archive is damaged or holds anything that is not allowed; nothing was added then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    added = 0
    # On the same disk as the target, so that each file arrives whole or not at all.
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as temporary:
        staged = []
        for filename, content in members(archive, allowed, name=name):
            path = Path(temporary, filename)
            path.write_bytes(content)
            staged.append(path)
        for path in staged:
            target = folder / path.name
            if not target.exists():
                path.replace(target)
                added += 1
    return added


def members(archive: Path, allowed: Allowed, *, name: str) -> Iterator[tuple[str, bytes]]:
    """The (base name, content) of each file of the archive, each checked before its content is read."""
    seen: set[str] = set()
    total = 0
    try:
        with _CappedGzip(archive, allowed, name=name) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.isdir() and member.name in (".", allowed.folder, f"./{allowed.folder}"):
                    continue
                filename = _checked_name(archive, member, allowed, name=name)
                total += member.size
                if filename in seen or len(seen) == allowed.files or total > allowed.total_bytes:
                    rule = f"at most {allowed.files:,} different files of {allowed.total_bytes:,} bytes together"
                    raise corrupt(archive, f"must hold {rule}, has more at {filename}", name)
                seen.add(filename)
                yield filename, _read(tar, member)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise corrupt(archive, f"is not a whole .tgz archive ({error})", name) from error


def _checked_name(archive: Path, member: tarfile.TarInfo, allowed: Allowed, *, name: str) -> str:
    folder, _, filename = member.name.removeprefix("./").rpartition("/")
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
    if not plain or folder != allowed.folder or not allowed.pattern.fullmatch(filename):
        rule = f"only plain files {allowed.folder}/{allowed.pattern.pattern}"
        raise corrupt(archive, f"must hold {rule}, has {member.name[:80]!r}", name)
    if member.size > allowed.file_bytes:
        raise corrupt(
            archive, f"must hold files of at most {allowed.file_bytes:,} bytes, {filename} has {member.size:,}", name
        )
    return filename


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file: IO[bytes] | None = tar.extractfile(member)
    assert file is not None  # plain files always have content
    content = file.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name} ended after {len(content):,} of {member.size:,} bytes")
    return content


class _CappedGzip(gzip.GzipFile):
    """A gzip stream that refuses to inflate past what the archive may hold: tarfile reads long headers in one piece."""

    def __init__(self, path: Path, allowed: Allowed, *, name: str) -> None:
        super().__init__(path, "rb")
        self._path, self._dataset = path, name
        # Each file has a header and padding of at most 1,024 bytes, and may have a long name of as much again.
        self._limit = allowed.total_bytes + 4096 * (allowed.files + 16)
        self._piece = max(allowed.file_bytes, tarfile.RECORDSIZE)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > self._piece or self.tell() + size > self._limit:
            raise corrupt(self._path, f"must hold at most {self._limit:,} bytes, has more", self._dataset)
        return super().read(size)
