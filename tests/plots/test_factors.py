"""Factor heatmaps show the factor's numbers, on its own indices."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from rankscope.plots import factor_heatmap, factor_heatmaps

F = np.random.default_rng(0).uniform(size=(30, 12))


def mesh(ax):
    return ax.collections[0]


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.tensor, pd.DataFrame, lambda F: torch.tensor(F, requires_grad=True)]
)
def test_cells_are_the_entries(kind):
    ax = factor_heatmap(kind(F), title="W")
    np.testing.assert_allclose(np.asarray(mesh(ax).get_array()).reshape(30, 12), F)
    assert ax.get_title() == "W"
    assert mesh(ax).get_clim() == (0.0, pytest.approx(F.max()))
    assert mesh(ax).get_rasterized()
    assert factor_heatmap(F).get_title() == "30 × 12"


def test_large_factors_are_averaged_in_blocks_and_keep_their_indices():
    large = np.repeat(np.arange(1000.0), 3)[:, None] * np.ones(5)  # 3000 × 5, constant over three rows
    ax = factor_heatmap(large)
    shown = np.asarray(mesh(ax).get_array()).reshape(-1, 5)
    assert len(shown) == 375  # blocks of eight
    assert shown[0, 0] == pytest.approx(np.mean(large[:8, 0]))
    assert shown.mean() == pytest.approx(large.mean())
    labels = [int(label.get_text()) for label in ax.get_yticklabels()]
    assert 3 <= len(labels) <= 8
    assert labels[-1] > 2000
    assert ax.get_yticks() == pytest.approx([(label + 0.5) * 375 / 3000 for label in labels])


def test_few_large_entries_do_not_pale_the_rest():
    spiked = F.copy()
    spiked[0, 0] = 100.0
    assert mesh(factor_heatmap(spiked)).get_clim()[1] < 2
    assert mesh(factor_heatmap(spiked)).colorbar.extend == "max"
    assert mesh(factor_heatmap(F)).colorbar.extend == "neither"


def test_signed_factors_are_centred_on_zero():
    low, high = mesh(factor_heatmap(F - 0.8)).get_clim()
    assert low == -high == pytest.approx(-np.abs(F - 0.8).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_empty_looking_factors_are_drawn(value):
    assert mesh(factor_heatmap(np.full((3, 4), value))).get_clim() == (0.0, 1.0)


def test_one_infinite_entry_leaves_its_block_visible():
    large = np.ones((3000, 5))
    large[1, 0] = np.inf
    np.testing.assert_array_equal(np.asarray(mesh(factor_heatmap(large)).get_array()), 1.0)


def test_chains_are_named_by_depth():
    chain = [F, F[:12, :4], F[:4]]
    assert [ax.get_title() for ax in factor_heatmaps(chain)] == ["W₁  (30 × 12)", "W₂  (12 × 4)", "H  (4 × 12)"]
    assert [ax.get_title()[0] for ax in factor_heatmaps([F, F.T])] == ["W", "H"]
    assert factor_heatmaps([F], names=["Z"])[0].get_title() == "Z  (30 × 12)"


def test_given_axes_are_used():
    axes = Figure().subplots(1, 3)
    assert list(factor_heatmaps([F, F.T], axes=axes)) == list(axes[:2])
    assert factor_heatmap(F, ax=axes[2]) is axes[2]


def test_refusals():
    with pytest.raises(ValueError, match="at least one matrix"):
        factor_heatmaps([])
    with pytest.raises(ValueError, match="one name per factor, got 1 for 2"):
        factor_heatmaps([F, F.T], names=["W"])
    with pytest.raises(ValueError, match=r"two-dimensional, got shape \(12,\)"):
        factor_heatmap(F[0])
    with pytest.raises(ValueError, match="must have entries"):
        factor_heatmap(F[:0])
