"""The weight study's figures draw the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rankscope import plots

RNG = np.random.default_rng(0)
BANDS = {"dense": 50 + RNG.random((5, 4)), "low-rank": 40 + RNG.random((5, 4))}
RESULTS = pd.DataFrame(
    {
        "model": ["kronecker", "nlmf", "dense"],
        "parameters": [320, 1208, 5110],
        "test_accuracy": [54.0, 48.0, 71.0],
        "test_low": [53.0, 47.0, np.nan],
        "test_high": [55.0, 49.0, np.nan],
        "pareto": [True, False, True],
        "published": [53.0, 46.35, None],
    }
)


def line(ax, label: str):
    return next(line for line in ax.get_lines() if line.get_label() == label)


def test_convergence_shows_means_over_seeds_and_their_band():
    losses = {name: band / 100 for name, band in BANDS.items()}
    accuracy, loss = plots.convergence(BANDS, losses, y="validation accuracy, %")
    for ax, bands in ((accuracy, BANDS), (loss, losses)):
        for name, band in bands.items():
            np.testing.assert_allclose(line(ax, name).get_ydata(), band.mean(1))
            np.testing.assert_array_equal(line(ax, name).get_xdata(), [1, 2, 3, 4, 5])
        assert len(ax.collections) == 2
    assert accuracy.get_ylabel() == "validation accuracy, %"
    (legend,) = accuracy.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(BANDS)


def test_a_single_seed_has_no_band_and_a_diverged_one_no_curve():
    flat = plots.convergence({"a": np.ones((3, 1))}, {"a": np.full((3, 1), np.nan)}, y="y")
    assert not flat[0].collections
    assert not flat[1].get_lines()


def test_ranks_start_before_the_first_epoch_one_axes_a_layer():
    flat = plots.ranks_in_training({"a": [BANDS["dense"], BANDS["low-rank"]], "b": [BANDS["dense"]]})
    assert len(flat) == 2
    np.testing.assert_array_equal(line(flat[0], "a").get_xdata(), np.arange(5))
    np.testing.assert_allclose(line(flat[1], "a").get_ydata(), BANDS["low-rank"].mean(1))
    assert line(flat[0], "b").get_color() != line(flat[0], "a").get_color()
    assert len(flat[1].get_lines()) == 1


def test_accuracy_against_parameters_has_a_log_axis_its_front_and_the_published_figures():
    ax = plots.accuracy_against_parameters(RESULTS)
    assert ax.get_xscale() == "log"
    np.testing.assert_array_equal(line(ax, "Pareto front").get_xdata(), [320, 5110])
    published = line(ax, "published in the brief").get_ydata()
    np.testing.assert_array_equal(published[:2], [53.0, 46.35])
    assert {text.get_text() for text in ax.texts} == {"kronecker", "nlmf", "dense"}


def test_the_response_is_ordered_by_rate_and_marks_the_chosen_one():
    trials = {"a": ([0.1, 0.001, 0.01], [50.0, 20.0, 60.0])}
    ax = plots.learning_rate_response(trials, {"a": 0.01}, y="accuracy")
    np.testing.assert_array_equal(line(ax, "a").get_xdata(), [0.001, 0.01, 0.1])
    np.testing.assert_array_equal(line(ax, "a").get_ydata(), [20.0, 60.0, 50.0])
    marks = [mark for mark in ax.get_lines() if mark.get_markerfacecolor() == "none"]
    assert [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks] == [(0.01, 60.0)]


def test_staircases_have_a_row_a_model():
    history = pd.DataFrame({"step": [0, 1, 2], "effective_rank": [3.0, 2.0, 2.5], "relative_error": [1.0, 0.1, 0.0]})
    axes = plots.staircases({"a": [history, history], "b": [history]})
    assert axes.shape == (2, 2)
    np.testing.assert_array_equal(axes[1, 0].get_lines()[0].get_ydata(), history["effective_rank"])
    assert "b, layer 1" in axes[1, 0].get_title(loc="left")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.convergence({}, {}, y="y"),
        lambda: plots.ranks_in_training({}),
        lambda: plots.accuracy_against_parameters(RESULTS.iloc[:0]),
        lambda: plots.learning_rate_response({}, {}, y="y"),
        lambda: plots.staircases({}),
    ],
    ids=["convergence", "ranks", "accuracy", "response", "staircases"],
)
def test_nothing_to_draw_is_refused(draw):
    before = plt.get_fignums()
    with pytest.raises(ValueError, match="at least one model to draw"):
        draw()
    assert plt.get_fignums() == before
