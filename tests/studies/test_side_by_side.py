"""What other processes count is shown as it rises, and a model is begun and ended once."""

import time
from types import SimpleNamespace

from rankscope.studies import side_by_side


def test_counts_of_other_processes_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "LOOK_EVERY", 0.01)
    said: list[tuple] = []
    bars = SimpleNamespace(
        start=lambda key: said.append(("start", key)),
        advance=lambda key, epochs: said.append(("advance", key, epochs)),
        done=lambda key: said.append(("done", key)),
    )
    entries = [SimpleNamespace(key="a"), SimpleNamespace(key="b")]

    def until(number: int) -> None:
        deadline = time.monotonic() + 20
        while len(said) < number:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    with side_by_side._shown(tmp_path / "counts", entries, bars) as counts:
        counts[0] = 3
        until(2)
        counts[0] = 5
        until(3)
        counts[1] = side_by_side.ENDED  # Resumed: nothing was left to do.
        until(5)
        counts[0] = side_by_side.ENDED
        until(6)
    assert said == [
        ("start", "a"),
        ("advance", "a", 3),
        ("advance", "a", 2),
        ("start", "b"),
        ("done", "b"),
        ("done", "a"),
    ]
