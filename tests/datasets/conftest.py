"""Every test of a data set has its own data root and cache, and no network; `loopback` allows 127.0.0.1 alone."""

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_socket
from loopback import Loopback

# Read once, before any test changes it.
REAL_ROOT = os.environ.get("RANKSCOPE_DATA", "")


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root that `$RANKSCOPE_DATA` points at; the cache is elsewhere."""
    folder = tmp_path / "data"
    monkeypatch.setenv("RANKSCOPE_DATA", str(folder))
    monkeypatch.setattr("rankscope.datasets.storage.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return folder


@pytest.fixture
def loopback(_no_network: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    pytest_socket.enable_socket()
    pytest_socket.socket_allow_hosts(["127.0.0.1"])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def real_mnist(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the real MNIST, or a skip."""
    folder = Path(REAL_ROOT, "MNIST", "raw")
    if not REAL_ROOT or not folder.is_dir():
        pytest.skip("RANKSCOPE_DATA does not point at a folder with the real MNIST")
    monkeypatch.setenv("RANKSCOPE_DATA", REAL_ROOT)
    return folder


@pytest.fixture
def peak_memory() -> Iterator[Callable[[], int]]:
    """Call it for the most bytes that Python and NumPy held at once since the last call."""

    def since_last() -> int:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        return peak

    tracemalloc.start()
    yield since_last
    tracemalloc.stop()
