"""What every figure must leave alone: matplotlib's settings, and the screen. Figures are closed after each test."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def nothing_global_changes(monkeypatch):
    def show(*_, **__):
        raise AssertionError("a figure was shown")

    monkeypatch.setattr(plt, "show", show)
    before = dict(mpl.rcParams)
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()  # what was put on the Axes can also be drawn
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.fixture
def history():
    """Fifty steps of a fit, in the columns of an estimator's history_."""
    step = np.arange(50)
    error = 0.9 * np.exp(-step / 10) + 0.01
    return pd.DataFrame(
        {
            "step": step,
            "seconds": 0.5 * step,
            "relative_error": error,
            "absolute_error": np.sqrt(error),
            "effective_rank": 1 + step / 25,
            "nuclear_over_operator": 1 + step / 50,
            "sigma_1": 10.0 + 0 * step,
            "sigma_2": step / 10,
        }
    )
