"""What is compiled is kept, until a file that it may come from changes."""

import importlib.util
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from rankscope import compiled as module

SOURCE = """
from rankscope.compiled import compiled

@compiled
def double(x):
    return 2 * x
"""


@pytest.fixture
def hits(tmp_path):
    file = tmp_path / "doubling.py"
    file.write_text(SOURCE, encoding="utf-8")

    def load():
        """How often the function was found among what is kept, when it is compiled in a new process."""
        spec = importlib.util.spec_from_file_location("doubling", file)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        assert found.double(3.0) == 6.0
        return sum(found.double.stats.cache_hits.values())

    return load


def test_it_is_kept_until_any_source_changes(hits, monkeypatch):
    assert hits() == 0
    assert hits() == 1
    monkeypatch.setattr(module, "source", lambda: "another")
    assert hits() == 0
    assert hits() == 1


def test_other_processes_never_get_what_comes_of_other_sources(hits, tmp_path, monkeypatch):
    hits()
    kept = {path.name for path in tmp_path.rglob("*.nbc")}
    assert len(kept) == 1
    monkeypatch.setattr(module, "source", lambda: "another")
    listed = []

    def interrupted(files, overloads):
        listed.append(overloads)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._Files, "_save_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hits()
    (name,) = listed[0].values()
    assert {path.name for path in tmp_path.rglob("*.nbc")} == {name}  # Written before it is listed, the other one gone.
    assert name not in kept
    assert hits() == 0
    assert hits() == 1


def test_the_digest_covers_files_that_call_each_other(monkeypatch):
    from pathlib import Path

    module.source.cache_clear()
    before, read = module.source(), Path.read_bytes
    for name in ("row_pass.py", "beside.py", "addresses.py", "rows.py", "vectors.py", "team.py", "compiled.py"):
        changed = lambda path, name=name: read(path) + (b"#" if path.name == name else b"")  # noqa: E731
        monkeypatch.setattr(Path, "read_bytes", changed)
        module.source.cache_clear()
        assert module.source() != before, name
    monkeypatch.undo()
    module.source.cache_clear()
    assert module.source() == before


def test_python_gets_numbers_only():
    @module.compiled
    def doubled(x):
        return 2 * x

    assert doubled(3.0) == 6.0
    with pytest.raises(TypeError, match="doubled must give numbers, got an array; let it write into one it is given"):
        doubled(np.ones(3))


def test_what_counts_no_references_gives_no_array():
    @module.leaf
    def same(x):
        return x

    @module.compiled
    def first(x):
        return same(x)[0]

    with pytest.raises(Exception, match="same must give numbers, got an array"):
        first(np.ones(3))


INTERRUPTED = """
import os, signal, threading, time, torch
from rankscope import DeepNMF, NMF
from rankscope.weights import Kronecker, StructuredLinear
threads, waits = int(os.environ["THREADS"]), [0.01 + 0.002 * k for k in range(25)]
torch.set_num_threads(threads)
A = torch.rand(300, 60)
layer, x = StructuredLinear(Kronecker(64, 64)), torch.rand(16, 64)

def fit(model):
    model.set_params(max_iter=10**7, stop="none").fit(A)

def train():
    while True:
        layer(x).sum().backward()

def shoot(wait):
    time.sleep(wait)
    os.kill(os.getpid(), signal.SIGINT)

NMF(4, max_iter=20).fit(A), DeepNMF((6, 4), solver="adam", max_iter=20).fit(A), layer(x).sum().backward()
for work in (lambda: fit(NMF(4)), lambda: fit(DeepNMF((6, 4), solver="adam")), train):
    for wait in waits:
        shot = threading.Thread(target=shoot, args=(wait,))
        try:
            shot.start()
            work()
        except KeyboardInterrupt:
            shot.join()
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_is_an_interrupt_whatever_it_meets(threads):
    def by_default():
        # A test run in the background of a shell inherits an ignored SIGINT, and would hand it on.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    call = [sys.executable, "-W", "ignore", "-c", INTERRUPTED]
    settings = os.environ | {"THREADS": str(threads)}
    subprocess.run(call, check=True, timeout=120, env=settings, preexec_fn=by_default)
