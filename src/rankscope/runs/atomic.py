"""Put a file in its place whole or not at all, and append to one so that only its last line can be torn."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: it takes its place when the block ends well and is removed otherwise."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sync(path: Path) -> None:
    """Wait until the file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def append_lines(path: Path, lines: str) -> None:
    """Append whole lines to an existing file after cutting a torn last line; on failure only that cut remains."""
    # Unbuffered: a buffered writer would try its rest again while closing, after the truncation.
    with path.open("r+b", buffering=0) as file:
        end = _end_of_last_line(file)
        rest = memoryview(lines.encode())
        try:
            file.truncate(end)
            file.seek(end)
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            file.truncate(end)
            raise


def whole_lines(path: Path) -> str:
    """The text of a file up to its last line end: without a torn last line, and "" when the file is missing."""
    if not path.is_file():
        return ""
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1].decode("utf-8", errors="replace")


def first_line(path: Path) -> str:
    """The first line with its end, or "" when the file is missing or has no whole line."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        line = file.readline().decode("utf-8", errors="replace")
    return line if line.endswith("\n") else ""


def _end_of_last_line(file: IO[bytes], chunk: int = 1 << 16) -> int:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - chunk)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
