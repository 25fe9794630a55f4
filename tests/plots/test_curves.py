"""Training curves and the staircase: what is on the Axes is what the history holds."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rankscope.plots import staircase, training_curves
from rankscope.trace.levels import Plateau, RankLevel

PLATEAUS = (
    Plateau(start=3, end=8, level=1.2, relative_error=0.5, k=1),
    Plateau(start=12, end=25, level=1.7, relative_error=0.2, k=2, kind="locked"),
    Plateau(start=30, end=49, level=2.9, relative_error=0.02, kind="converged"),
)


def spans(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_training_curves_draw_the_columns_against_step_plus_one(history):
    axes = training_curves(history)
    assert axes.shape == (2, 2)
    drawn = [line for ax in axes.flat for line in ax.get_lines()]
    names = ["relative_error", "effective_rank", "nuclear_over_operator", "sigma_1", "sigma_2"]
    for line, name in zip(drawn, names, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), history["step"] + 1)
        np.testing.assert_array_equal(line.get_ydata(), history[name])
    assert [ax.get_xscale() for ax in axes.flat] == ["log"] * 4
    assert [ax.get_yscale() for ax in axes.flat] == ["log", "linear", "linear", "linear"]
    assert {ax.get_xlabel() for ax in axes.flat} == {"step + 1"}
    assert [text.get_text() for text in axes[1, 1].get_legend().get_texts()] == ["σ₁", "σ₂"]


def test_plateaus_are_shaded_from_start_to_end_and_named(history):
    axes = training_curves(history, iter(PLATEAUS))
    for ax in axes.flat:
        edges = [(span.get_x(), span.get_x() + span.get_width()) for span in spans(ax)]
        assert edges == [(4, 9), (13, 26), (31, 50)]
    assert texts(axes[0, 1]) == ["k=1", "locked", "2.9"]
    assert texts(axes[1, 1]) == []
    hatches = [span.get_hatch() for span in spans(axes[0, 0])]
    assert [bool(hatch) for hatch in hatches] == [False, True, False]
    assert len({span.get_facecolor() for span in spans(axes[0, 0])}) == 3


def test_names_of_close_plateaus_do_not_overlap(history):
    close = [Plateau(start=i, end=i + 1, level=1.0, relative_error=0.5, k=i) for i in range(20, 45, 2)]
    ax = training_curves(history, close)[0, 1]
    assert len(spans(ax)) == len(close)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert 1 < len(boxes) < len(close)
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))


def test_staircase_has_rank_left_error_right_and_levels_dashed(history):
    levels = [RankLevel(1, 1.0, 0.4), RankLevel(2, 1.8, 0.1), RankLevel(3, 2.5, 0.05), RankLevel(4, 40.0, 0.0)]
    ax = staircase(history, PLATEAUS, levels=levels)
    (right,) = (other for other in ax.figure.axes if other is not ax)
    curve, *dashed = ax.get_lines()
    np.testing.assert_array_equal(curve.get_xdata(), history["step"] + 1)
    np.testing.assert_array_equal(curve.get_ydata(), history["effective_rank"])
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), history["relative_error"])
    assert [line.get_ydata()[0] for line in dashed] == [1.0, 1.8, 2.5]  # 40 is out of reach and would flatten the curve
    assert ax.get_ylim()[1] < 4
    assert {"$A_{1}$", "$A_{2}$", "$A_{3}$", "k=1", "locked", "2.9"} == set(texts(ax))
    assert len(spans(ax)) == 3
    assert (ax.get_xscale(), right.get_yscale()) == ("log", "log")
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    kinds = ["plateau: transient", "plateau: converged", "plateau: locked"]
    assert entries == [
        "effective rank",
        "relative error",
        *(kind for kind in kinds if kind[9:] in {p.kind for p in PLATEAUS}),
    ]


def test_crowded_levels_are_all_drawn_but_not_all_named(history):
    levels = [RankLevel(k, 1 + 0.02 * k, 0.1) for k in range(1, 60)]
    ax = staircase(history, levels=levels)
    assert len(ax.get_lines()) == 60
    assert 5 < len(ax.texts) < 30


def test_of_many_levels_only_those_of_plateaus_cross_the_figure(history):
    levels = [RankLevel(k, 1 + 0.2 * k, 0.1) for k in range(1, 9)]
    plateau = Plateau(start=3, end=8, level=1.6, relative_error=0.1, k=3)
    _, *dashed = staircase(history, [plateau], levels=levels).get_lines()
    assert [level.k for level, line in zip(levels, dashed, strict=True) if line.get_xdata()[1] == 1] == [3]


def test_given_axes_are_used(history):
    figure = Figure()
    axes = figure.subplots(1, 5)
    assert list(training_curves(history, axes=axes).ravel()) == list(axes[:4])
    assert staircase(history, ax=axes[4]) is axes[4]
    with pytest.raises(ValueError, match="at least 4 Axes, got 3"):
        training_curves(history, axes=axes[:3])


def test_nothing_to_draw_is_said(history):
    for nothing in (history.iloc[:0], history * np.nan):
        axes = training_curves(nothing, PLATEAUS)
        assert [texts(ax) for ax in axes.flat] == [["no finite values"]] * 4
        assert texts(staircase(nothing, PLATEAUS)) == ["no finite values"]


def test_holes_are_left_out_and_one_point_is_a_marker(history):
    history.loc[5:9, "effective_rank"] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    line = staircase(history).get_lines()[0]
    assert len(line.get_xdata()) == 45
    line = staircase(history.iloc[:1]).get_lines()[0]
    assert line.get_marker() == "o"


def test_zero_error_stays_linear(history):
    history["relative_error"] = 0.0
    assert training_curves(history)[0, 0].get_yscale() == "linear"


def test_long_histories_are_thinned_but_keep_their_ends(history):
    n = 50_000
    long = history.iloc[np.zeros(n, dtype=int)].assign(step=np.arange(n))
    x = staircase(long).get_lines()[0].get_xdata()
    assert len(x) <= 4000
    assert (x[0], x[-1]) == (1, n)
    assert np.all(np.diff(x) > 0)
    np.testing.assert_array_equal(x[:100], np.arange(1, 101))


def test_a_missing_column_is_named(history):
    with pytest.raises(ValueError, match="lacks sigma_2"):
        training_curves(history.drop(columns="sigma_2"))
