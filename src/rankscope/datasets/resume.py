"""A downloader for pooch that continues after a cut.

The bytes received so far stay in `NAME.part` beside the target, with the server's validator (ETag or Last-Modified) and
the length in `NAME.part.json`. The next attempt, in this process or another, asks for the rest with

    Range: bytes=OFFSET-        If-Range: VALIDATOR

and starts over when the server answers with the whole file, because it changed or the server cannot do ranges.

Reference: RFC 9110, HTTP Semantics, sections 13.1.5 (If-Range) and 14 (Range Requests).
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.exceptions import HTTPError

from rankscope.errors import CorruptDataError

_TIMEOUT = (10.0, 30.0)
_CHUNK = 1 << 16
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class _TryAgainError(Exception):
    """The attempt failed in a way that another one may not."""


@dataclass(frozen=True)
class _Note:
    """What must be unchanged for the bytes of a `.part` file to be the beginning of the file."""

    url: str
    validator: str
    length: int


class ResumingDownloader:
    """Download a url to a file by way of `part`; pooch calls it with (url, output_file, pooch).

    Args:
        part: where the received bytes stay after a cut.
        limit: bytes after which the server is refused.
        attempts, backoff: how often to try, and the seconds before the second attempt (doubled each time).
    """

    def __init__(self, part: Path, limit: int, *, attempts: int, backoff: float) -> None:
        self.part = part
        self.limit = limit
        self.attempts = attempts
        self.backoff = backoff

    def __call__(self, url: str, output_file: str, pooch: object = None, check_only: bool | None = False) -> None:
        _require_https(url)
        reason = ""
        with _progress(self.part.stem) as show:
            for attempt in range(self.attempts):
                if attempt:
                    time.sleep(self.backoff * 2 ** (attempt - 1))
                try:
                    self._attempt(url, show)
                    break
                except _TryAgainError as error:
                    reason = str(error)
                except (requests.RequestException, HTTPError) as error:
                    reason = type(error).__name__
                except OSError as error:
                    # A full disk does not say which; every other error of ours already names its file.
                    if error.errno is None or error.filename is not None:
                        raise
                    raise OSError(error.errno, error.strerror, str(self.part)) from error
            else:
                raise ConnectionError(_failed(url, f"{reason}, {self.attempts} attempts", self.part))
        self.part.replace(output_file)
        _note_path(self.part).unlink(missing_ok=True)

    def _attempt(self, url: str, show: Callable[[int, int | None], None]) -> None:
        note, offset = _read_note(self.part, url)
        if note is not None and offset == note.length:
            return
        # Identity: the bytes on disk must be the file's own, or no offset means anything.
        headers = {"Accept-Encoding": "identity"}
        if note is not None and offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": note.validator}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            _require_https(response.url)
            offset = self._start(response, url, note, offset)
            total = _length(response, offset)
            if total is not None and total > self.limit:
                _discard(self.part)
                raise CorruptDataError(f"{url} must have {self.limit:,} bytes, offers {total:,}; nothing was kept")
            with self.part.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                received = self._receive(response, file, offset, lambda n: show(n, total))
        # urllib3 before 2 takes a body that is too short for a whole one.
        if total is not None and received < total:
            raise _TryAgainError(f"cut after {received:,} of {total:,} bytes")

    def _start(self, response: requests.Response, url: str, note: _Note | None, offset: int) -> int:
        """Where in the file the body of this answer begins."""
        status = response.status_code
        if status == 206 and note is not None:
            if response.headers.get("Content-Range", "") == f"bytes {offset}-{note.length - 1}/{note.length}":
                return offset
            _discard(self.part)
            raise _TryAgainError("the server answered with another range")
        if status == 416:
            _discard(self.part)
            raise _TryAgainError("the server refused the range")
        if status in _BUSY:
            raise _TryAgainError(f"the server answered {status}")
        if status != 200:
            raise ConnectionError(_failed(url, f"the server answered {status} {response.reason}", self.part))
        _discard(self.part)
        validator = _validator(response)
        total = _length(response, 0)
        if validator and total is not None:
            _note_path(self.part).write_text(json.dumps(asdict(_Note(url, validator, total))), encoding="utf-8")
        return 0

    def _receive(self, response: requests.Response, file: BinaryIO, offset: int, show: Callable[[int], None]) -> int:
        received = offset
        try:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                received += len(chunk)
                if received > self.limit:
                    _discard(self.part)
                    raise CorruptDataError(f"{file.name} must have {self.limit:,} bytes, got more; nothing was kept")
                file.write(chunk)
                show(received)
        except HTTPError as error:
            raise _TryAgainError(f"cut after {received:,} bytes") from error
        finally:
            file.flush()
            os.fsync(file.fileno())
        return received


def kept_bytes(part: Path, url: str) -> int:
    """How many bytes of `url` an earlier attempt left."""
    return _read_note(part, url)[1]


def _read_note(part: Path, url: str) -> tuple[_Note | None, int]:
    """The note beside a `.part` file and the file's length, or (None, 0) when there is nothing to continue."""
    try:
        note = _Note(**json.loads(_note_path(part).read_text(encoding="utf-8")))
        length = part.stat().st_size
    except (OSError, ValueError, TypeError):
        return None, 0
    usable = note.url == url and isinstance(note.length, int) and isinstance(note.validator, str)
    return (note, length) if usable and 0 < length <= note.length else (None, 0)


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes, and is not allowed in If-Range.
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag) else response.headers.get("Last-Modified", "")


def _length(response: requests.Response, offset: int) -> int | None:
    text = response.headers.get("Content-Length", "")
    return offset + int(text) if text.isdecimal() else None


def _require_https(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConnectionError(f"downloads use https, got {url}; nothing was kept")


def _failed(url: str, reason: str, part: Path) -> str:
    return (
        f"could not download {url} ({reason}); check the network and fetch again (it continues where it stopped), "
        f"or put the file at {part.with_suffix('')}"
    )


@contextmanager
def _progress(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr when that is a terminal, nothing otherwise; call it with (bytes so far, bytes in all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda received, total: bar.update(task, completed=received, total=total)
