"""The weights of a model: what is on the Axes is what the tracker recorded."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rankscope.plots import layer_heatmap, layer_staircases, singular_value_trajectories
from rankscope.trace.levels import Plateau

LAYERS = ("embed.weight", "blocks.0.attention.projection.out.weight", "head.weight")
STEPS = np.array([0, 1, 3, 10, 100])


@pytest.fixture
def table():
    """Three layers at five steps; the last singular value and one row do not exist."""
    rows = [
        {
            "step": step,
            "seconds": 0.1 * step,
            "layer": layer,
            "effective_rank": (i + 1) * (2 + np.log1p(step)),
            "sigma_1": 10.0 * (i + 1),
            "sigma_2": 1.0 + step,
            "sigma_10": np.nan,
        }
        for step in STEPS
        for i, layer in enumerate(LAYERS)
    ]
    frame = pd.DataFrame(rows)
    frame.loc[(frame["step"] == 3) & (frame["layer"] == "head.weight"), ["effective_rank", "sigma_1", "sigma_2"]] = (
        np.nan
    )
    return frame


def cells(ax):
    (mesh,) = ax.collections
    return np.ma.filled(mesh.get_array(), np.nan).reshape(len(LAYERS), -1), mesh


def test_a_cell_per_layer_and_step_from_top_to_bottom(table):
    ax = layer_heatmap(table)
    values, mesh = cells(ax)
    wanted = np.array([(i + 1) * (2 + np.log1p(STEPS)) for i in range(3)])
    wanted[2, 2] = np.nan
    np.testing.assert_allclose(values, wanted)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert (names[0], names[2]) == ("embed.weight", "head.weight")
    assert names[1].startswith("blocks.0.")
    assert names[1].endswith("out.weight")
    assert len(names[1]) <= 26
    assert ax.get_ylim() == (3, 0)
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "step + 1")
    edges = mesh.get_coordinates()[0, :, 0]
    assert all(low <= step + 1 <= high for step, (low, high) in zip(STEPS, itertools.pairwise(edges), strict=True))
    assert edges[0] == 1


def test_relative_cells_are_factors_since_the_start_around_one(table):
    values, mesh = cells(layer_heatmap(table, relative=True))
    np.testing.assert_allclose(values[:, 0], 1)
    np.testing.assert_allclose(values[0], (2 + np.log1p(STEPS)) / 2)
    low, high = mesh.get_clim()
    assert low + high == pytest.approx(2)


def test_other_measures_layers_and_wide_ranges(table):
    ax = layer_heatmap(table, "sigma_2", layers=["head.weight"], ax=Figure().subplots())
    assert isinstance(ax.collections[0].norm, LogNorm)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["head.weight"]


@pytest.mark.parametrize("value", [np.nan, 0.0, 3.0])
def test_constant_and_missing_values_can_be_drawn(table, value):
    table["effective_rank"] = value
    for relative in (False, True):
        layer_heatmap(table[table["step"] == 0], relative=relative).figure.canvas.draw()
        layer_heatmap(table, relative=relative).figure.canvas.draw()
    assert len(layer_staircases(table)) == 3


def test_singular_values_have_an_axes_per_layer_and_a_line_each(table):
    axes = singular_value_trajectories(table)
    assert len(axes) == 3
    for i, ax in enumerate(axes):
        assert [line.get_label() for line in ax.get_lines()] == ["σ₁", "σ₂"]  # σ₁₀ does not exist
        first, second = ax.get_lines()
        kept = STEPS if i < 2 else STEPS[STEPS != 3]
        np.testing.assert_array_equal(first.get_xdata(), kept + 1)
        np.testing.assert_array_equal(first.get_ydata(), np.full(len(kept), 10.0 * (i + 1)))
        np.testing.assert_array_equal(second.get_ydata(), 1.0 + kept)
        assert ax.get_yscale() == "log"
    assert len(axes[0].figure.legends) == 1


def test_staircases_shade_the_plateaus_of_each_layer(table):
    plateaus = {
        "embed.weight": [Plateau(3, 10, 3.9, 0.5)],
        "head.weight": [Plateau(1, 3, 8.0, 0.5), Plateau(10, 100, 16, 0.1)],
    }
    axes = layer_staircases(table, plateaus)
    spans = [
        [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches if isinstance(patch, Rectangle)]
        for ax in axes
    ]
    assert spans == [[(4, 11)], [], [(2, 4), (11, 101)]]
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["3.9"], [], ["8", "16"]]
    np.testing.assert_allclose(axes[1].get_lines()[0].get_ydata(), 2 * (2 + np.log1p(STEPS)))
    assert [ax.get_ylabel() for ax in axes] == ["effective rank", "", ""]


def test_given_axes_and_chosen_layers(table):
    axes = Figure().subplots(1, 2)
    chosen = ["head.weight", "embed.weight"]
    assert list(layer_staircases(table, layers=chosen, axes=axes)) == list(axes)
    assert [ax.get_title() for ax in singular_value_trajectories(table, layers=chosen)] == chosen
    with pytest.raises(ValueError, match="at least 3 Axes, got 2"):
        layer_staircases(table, axes=axes)


def test_at_most_twelve_layers_unless_more_are_asked_for():
    names = [f"{i}.weight" for i in range(15)]
    frame = pd.DataFrame({"step": 0, "layer": names, "effective_rank": 2.0, "sigma_1": 1.0})
    assert len(layer_staircases(frame)) == 12
    assert len(singular_value_trajectories(frame, layers=names)) == 15
    assert len(layer_heatmap(frame).get_yticks()) == 15


def test_what_is_missing_is_named(table):
    with pytest.raises(ValueError, match="lacks stable_rank"):
        layer_heatmap(table, "stable_rank")
    with pytest.raises(ValueError, match=r"layers must be among those recorded, got \['tail.weight'\]"):
        layer_staircases(table, layers=["tail.weight"])
    for draw in (layer_heatmap, layer_staircases, singular_value_trajectories):
        with pytest.raises(ValueError, match="history must have"):
            draw(table[:0])
    with pytest.raises(ValueError, match="history must have sigma_1"):
        singular_value_trajectories(table[["step", "layer"]])
