"""A small HTTP server on loopback that can cut, refuse, and tell what it was asked."""

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from rankscope.datasets.download import RemoteFile

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)


@dataclass
class Behaviour:
    """What the server does, and what it saw.

    cuts: for each coming request, how many bytes of the body to send before closing (None: all of them).
    statuses: for each coming request, a status to answer instead (None: the file).
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    ranges: bool = True
    etags: bool = True
    lengths: bool = True
    encoding: str = ""
    content_range: str = ""
    redirect: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


class Loopback:
    """The server in a thread; `url` is its root."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.behaviour))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _handler(behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            behaviour.asked.append((self.path, wanted))
            status = behaviour.statuses.pop(0) if behaviour.statuses else None
            content = behaviour.files.get(self.path.lstrip("/"))
            if behaviour.redirect:
                self.send_response(302)
                self.send_header("Location", behaviour.redirect)
                self.end_headers()
                return
            if status is not None or content is None:
                self.send_error(status or 404)
                return
            self._send(content, wanted)

        def _send(self, content: bytes, wanted: str | None) -> None:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            body = content
            unchanged = self.headers.get("If-Range") in (None, etag)
            if wanted and behaviour.ranges and unchanged:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                body = content[start:]
                self.send_response(206)
                default = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", behaviour.content_range or default)
            else:
                self.send_response(200)
            if behaviour.etags:
                self.send_header("ETag", etag)
            if behaviour.encoding:
                self.send_header("Content-Encoding", behaviour.encoding)
            if behaviour.lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = behaviour.cuts.pop(0) if behaviour.cuts else None
            self.wfile.write(body[:cut])

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def remote(server: Loopback, content: bytes = CONTENT, size: int | None = None) -> RemoteFile:
    """The file as published: `content` is what is pinned, not necessarily what the server sends."""
    server.behaviour.files.setdefault("data.bin", CONTENT)
    return RemoteFile(f"{server.url}/data.bin", hashlib.md5(content).hexdigest(), size or len(content))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)
