"""A history is its rows, whatever the batches they came in."""

import pandas as pd
import pytest
import torch

from rankscope.metrics import effective_rank, stable_rank
from rankscope.trace.history import History, Rows

COLUMNS = [
    "step",
    "seconds",
    "relative_error",
    "absolute_error",
    "effective_rank",
    "nuclear_over_operator",
    "sigma_1",
    "sigma_2",
]


def rows(start: int, stop: int, rank: int = 3) -> Rows:
    steps = list(range(start, stop))
    sigma = torch.stack([torch.linspace(3 + t, 1, rank, dtype=torch.float64) for t in steps])
    error = torch.tensor([1 / (t + 1) for t in steps], dtype=torch.float64)
    return Rows(steps, [0.5 * t for t in steps], error, error.sqrt(), sigma)


def test_batches_do_not_show():
    whole, parts = History(), History()
    whole.extend(rows(0, 10))
    for start, stop in [(0, 1), (1, 6), (6, 10)]:
        parts.extend(rows(start, stop))
        assert len(parts.to_frame()) == stop
    pd.testing.assert_frame_equal(whole.to_frame(), parts.to_frame())
    assert list(parts.to_frame()["step"]) == list(range(10))
    assert len(parts) == 10


def test_columns_are_the_contract():
    history = History()
    assert list(history.to_frame().columns) == COLUMNS
    history.extend(rows(0, 2))
    assert list(history.to_frame().columns) == COLUMNS


def test_measures_are_those_of_the_spectrum():
    history = History({"stable": stable_rank, "largest": lambda sigma: sigma[..., 0]})
    history.extend(rows(0, 4))
    frame = history.to_frame()
    sigma = rows(0, 4).sigma
    for t in range(4):
        assert frame["effective_rank"][t] == pytest.approx(effective_rank(torch.diag(sigma[t])).item(), rel=1e-12)
        assert frame["stable"][t] == pytest.approx(stable_rank(torch.diag(sigma[t])).item(), rel=1e-12)
    assert (frame["largest"] == frame["sigma_1"]).all()


def test_rank_one_has_no_second_singular_value():
    history = History()
    history.extend(rows(0, 3, rank=1))
    assert (history.to_frame()["sigma_2"] == 0).all()
    assert (history.to_frame()["effective_rank"] == 1).all()


def test_a_frame_handed_out_is_the_callers_own():
    history = History()
    history.extend(rows(0, 3))
    mine = history.to_frame()
    mine.loc[0, "step"] = 99
    assert history.to_frame()["step"][0] == 0
