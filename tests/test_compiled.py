"""What is compiled is kept, until a file that it may come from changes."""

import importlib.util

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


def test_the_digest_covers_files_that_call_each_other(monkeypatch):
    from pathlib import Path

    module.source.cache_clear()
    before, read = module.source(), Path.read_bytes
    for name in ("row_pass.py", "products.py", "vectors.py", "team.py", "compiled.py"):
        changed = lambda path, name=name: read(path) + (b"#" if path.name == name else b"")  # noqa: E731
        monkeypatch.setattr(Path, "read_bytes", changed)
        module.source.cache_clear()
        assert module.source() != before, name
    monkeypatch.undo()
    module.source.cache_clear()
    assert module.source() == before
