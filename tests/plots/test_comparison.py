"""Many fits on one figure, and one fit on one page."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from rankscope.plots import comparison, results_page
from rankscope.trace.levels import Plateau


def test_three_panels_hold_every_fit(history):
    fits = {"hals": history, "mu": history.assign(seconds=2 * history["seconds"])}
    by_step, by_seconds, rank = comparison(fits)
    panels = [
        (by_step, "step", "relative_error"),
        (by_seconds, "seconds", "relative_error"),
        (rank, "step", "effective_rank"),
    ]
    for ax, x, y in panels:
        for line, (name, fit) in zip(ax.get_lines(), fits.items(), strict=True):
            assert line.get_label() == name
            np.testing.assert_array_equal(line.get_xdata(), fit[x] + (x == "step"))
            np.testing.assert_array_equal(line.get_ydata(), fit[y])
    assert [ax.get_xscale() for ax in (by_step, by_seconds, rank)] == ["log", "linear", "log"]
    assert [ax.get_yscale() for ax in (by_step, by_seconds, rank)] == ["log", "log", "linear"]


def test_twenty_fits_look_different_the_same_in_each_panel_and_share_one_legend(history):
    axes = comparison({f"solver {i} init {i}": history for i in range(20)})
    looks = [
        [(line.get_color(), str(line.get_linestyle()), line._dash_pattern) for line in ax.get_lines()] for ax in axes
    ]
    assert len(set(map(str, looks[0]))) == 20
    assert looks[0] == looks[1] == looks[2]
    figure = axes[0].figure
    assert [ax.get_legend() for ax in axes] == [None] * 3
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 20
    figure.canvas.draw()
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert all(box.y1 <= ax.get_tightbbox().y0 for ax in axes)


def test_in_a_grid_a_colour_is_a_solver_and_a_dash_a_start(history):
    solvers, starts = ("hals", "mu", "gd", "adam", "scalar"), ("random", "eye", "nndsvd", "nndsvda")
    ax = comparison({f"{solver}-{start}": history for solver in solvers for start in starts})[0]
    colours = [line.get_color() for line in ax.get_lines()]
    dashes = [str(line._dash_pattern) for line in ax.get_lines()]
    assert [len(set(colours[i : i + 4])) for i in range(0, 20, 4)] == [1] * 5
    assert [len(set(dashes[i::4])) for i in range(4)] == [1] * 4
    assert len(set(zip(colours, dashes, strict=True))) == 20


def test_long_names_still_fit_the_page(history):
    axes = comparison({f"a rather long name of a fit, {i}, with its settings": history for i in range(4)})
    figure = axes[0].figure
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_fits_without_values(history):
    axes = comparison({"none": history.iloc[:0], "some": history})
    assert [len(ax.get_lines()) for ax in axes] == [1, 1, 1]
    axes = comparison({"none": history * np.nan})
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["no finite values"]] * 3
    assert not axes[0].figure.legends
    with pytest.raises(ValueError, match="at least one fit"):
        comparison({})


def test_given_axes_get_the_legend_beside_the_last(history):
    axes = Figure().subplots(1, 3)
    assert list(comparison({"a": history}, axes=axes)) == list(axes)
    assert axes[2].get_legend() is not None


def test_a_page_holds_factors_curves_signatures_and_reconstructions(history):
    g = np.random.default_rng(0)
    W, H = g.uniform(size=(20, 4)), g.uniform(size=(4, 12))
    plateau = Plateau(start=3, end=9, level=1.2, relative_error=0.5, k=1)
    figure = results_page((W, H), history, (3, 4), X=W @ H, plateaus=[plateau])
    titles = {ax.get_title() for ax in figure.axes}
    assert {"W  (20 × 4)", "H  (4 × 12)", "1", "4", "row 1", "relative error 0"} <= titles
    assert sum(bool(ax.get_images()) for ax in figure.axes) >= 4 + 6
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels.count("relative error") == labels.count("effective rank") == 1
    assert sum(text.get_text() == "k=1" for ax in figure.axes for text in ax.texts) == 2
    assert figure.number in plt.get_fignums()
    deep = results_page((W, np.eye(4), H), history, (3, 4), n_show=2)
    assert sum(bool(ax.get_images()) for ax in deep.axes) == 2
