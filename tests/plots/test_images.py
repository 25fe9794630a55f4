"""Rows as pictures: signatures, reconstructions, the gallery of plateaus and generated rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from rankscope.nmf.generate import GenerationScore
from rankscope.plots import plateau_gallery, reconstructions, sample_grid, signatures

g = np.random.default_rng(0)
GREY, COLOUR = g.uniform(size=(7, 12)), g.uniform(size=(7, 36))  # 3×4 pictures


def shown(ax):
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


def pictures(axes):
    return [ax for ax in np.ravel(axes) if ax.get_images()]


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, pd.DataFrame])
def test_signatures_are_the_rows_each_on_its_own_scale(kind):
    H = GREY * np.arange(1, 8)[:, None]
    axes = signatures(kind(H), (3, 4), title="components")
    assert axes.shape == (7,)
    for i, ax in enumerate(axes):
        np.testing.assert_allclose(shown(ax), H[i].reshape(3, 4))
        assert ax.get_images()[0].get_clim() == (0.0, pytest.approx(H[i].max()))
        assert ax.get_title() == f"{i + 1}"
    assert axes[0].figure.get_suptitle() == "components"


@pytest.mark.parametrize("shape", [(3, 3, 4), (3, 4)])
def test_colour_is_channels_first_and_scaled_by_each_rows_largest_entry(shape):
    axes = signatures(COLOUR * 5, shape, n_show=2)
    for ax, row in zip(axes, COLOUR, strict=False):
        picture = shown(ax)
        assert picture.shape == (3, 4, 3)
        np.testing.assert_allclose(picture[..., 1], row.reshape(3, 3, 4)[1] / row.max())
    assert axes[0].figure.get_suptitle() == "signatures (2 of 7)"


def test_one_channel_is_grey_and_one_dimension_is_a_line():
    np.testing.assert_allclose(shown(signatures(GREY, (1, 3, 4))[0]), GREY[0].reshape(3, 4))
    line = signatures(GREY, (12,))[2].get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), GREY[2])


@pytest.mark.parametrize("shape", [(4, 4), (5,), (2, 3, 4), (3, 4, 1, 1), ()])
def test_a_shape_that_does_not_fit_is_refused_with_numbers(shape):
    with pytest.raises(ValueError, match=r"image_shape \(.*\) needs rows of \d+.* numbers, got 12"):
        signatures(GREY, shape)


def test_many_signatures_are_cut_and_counted():
    many = np.tile(GREY, (20, 1))
    axes = signatures(many, (3, 4))
    assert len(axes) == 60
    assert axes[0].figure.get_suptitle() == "signatures (60 of 140)"
    assert len(signatures(many, (3, 4), n_show=70)) == 70
    thirteen = signatures(many, (3, 4), n_show=13)
    blank = [ax for ax in thirteen[0].figure.axes if not ax.axison and not ax.get_images()]
    assert (len(thirteen[0].figure.axes), len(blank)) == (14, 1)
    assert len(signatures(many, (3, 4), n_show=20)[0].figure.axes) == 20


def test_dead_and_broken_signatures_are_drawn():
    H = np.array([np.zeros(12), np.full(12, np.nan), np.r_[np.inf, GREY[0, 1:]]])
    axes = signatures(H, (3, 4))
    assert [ax.get_images()[0].get_clim()[1] for ax in axes] == [1.0, 1.0, pytest.approx(GREY[0, 1:].max())]
    signatures(np.tile(H, (1, 3)), (3, 3, 4))
    signatures(H, (12,))


def test_reconstructions_show_original_reconstruction_and_absolute_error():
    A_hat = GREY + g.normal(size=GREY.shape) / 10
    axes = reconstructions(GREY, torch.tensor(A_hat), (3, 4), indices=(5, -1))
    assert axes.shape == (2, 3)
    for row, i in zip(axes, (5, -1), strict=True):
        np.testing.assert_allclose(shown(row[0]), GREY[i].reshape(3, 4))
        np.testing.assert_allclose(shown(row[1]), A_hat[i].reshape(3, 4))
        np.testing.assert_allclose(shown(row[2]), np.abs(GREY[i] - A_hat[i]).reshape(3, 4))
        assert row[0].get_images()[0].get_clim() == row[1].get_images()[0].get_clim() == (0.0, GREY[i].max())
        assert row[2].get_images()[0].colorbar is not None
        error = np.sum((GREY[i] - A_hat[i]) ** 2) / np.sum(GREY[i] ** 2)
        assert f"relative error {error:.3g}" in row[1].get_title()
    assert [ax.get_title().splitlines()[0] for ax in axes[0]] == ["original", "reconstruction", "absolute error"]


def test_reconstructions_in_colour_share_a_scale_and_average_the_error_over_channels():
    axes = reconstructions(COLOUR, 2 * COLOUR, (3, 3, 4), indices=[0])
    original = COLOUR[0].reshape(3, 3, 4).transpose(1, 2, 0)
    np.testing.assert_allclose(shown(axes[0, 0]), original / original.max())
    np.testing.assert_allclose(shown(axes[0, 1]), np.clip(2 * original / original.max(), 0, 1))
    np.testing.assert_allclose(shown(axes[0, 2]), original.mean(axis=-1))


def test_reconstructions_of_zero_rows_and_lines():
    zeros = np.zeros((2, 12))
    assert "relative error 0" in reconstructions(zeros, zeros, (3, 4))[0, 1].get_title()
    assert "relative error inf" in reconstructions(zeros, GREY[:2], (3, 4))[0, 1].get_title()
    axes = reconstructions(GREY, 2 * GREY, (12,))
    np.testing.assert_array_equal(axes[0, 1].get_lines()[0].get_ydata(), 2 * GREY[0])
    assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim()
    assert axes[0, 1].get_ylim()[1] > 2 * GREY[0].max()


def test_rows_of_a_part_keep_their_numbers():
    axes = reconstructions(GREY[:2], GREY[:2], (3, 4), indices=(0, 1), numbers=(100, 249))
    assert [ax.get_title().splitlines()[-1] for ax in axes[:, 0]] == ["row 100", "row 249"]
    with pytest.raises(ValueError, match="one number a row, got 1 for 2"):
        reconstructions(GREY, GREY, (3, 4), indices=(0, 1), numbers=(7,))


def test_reconstructions_refuse():
    with pytest.raises(ValueError, match=r"one shape, got \(7, 12\) and \(6, 12\)"):
        reconstructions(GREY, GREY[:6], (3, 4))
    for indices in ((7,), (-8,), ()):
        with pytest.raises(ValueError, match=r"indices must name rows of A \(0 … 6\)"):
            reconstructions(GREY, GREY, (3, 4), indices=indices)


def test_gallery_has_a_line_per_stage_and_the_originals_above():
    stages = {"k = 1": (GREY[:2], GREY[:3] / 2), "final": (GREY[:5], GREY[:3] / 3)}
    axes = plateau_gallery(stages, (3, 4), n_show=4, originals=GREY[:3])
    assert axes.shape == (3, 4 + 1 + 3)
    assert [len(pictures(line)) for line in axes] == [3, 2 + 3, 4 + 3]
    np.testing.assert_allclose(shown(axes[0, 5]), GREY[0].reshape(3, 4))
    np.testing.assert_allclose(shown(axes[1, 1]), GREY[1].reshape(3, 4))
    np.testing.assert_allclose(shown(axes[2, 7]), GREY[2].reshape(3, 4) / 3)
    # A signature is shown on its own scale, a reconstruction on that of its original.
    assert axes[1, 1].get_images()[0].get_clim()[1] == GREY[1].max()
    assert axes[2, 7].get_images()[0].get_clim()[1] == GREY[2].max()
    assert [text.get_text() for ax in axes.ravel() for text in ax.texts] == ["original", "k = 1", "final"]


def test_gallery_without_originals_in_colour_and_lines():
    assert plateau_gallery({"final": (COLOUR, COLOUR)}, (3, 3, 4), n_show=2).shape == (1, 5)
    axes = plateau_gallery({"final": (GREY, GREY)}, (12,), n_show=2)
    np.testing.assert_array_equal(axes[0, 1].get_lines()[0].get_ydata(), GREY[1])
    for stages, n_show in [({}, 2), ({"final": (GREY, GREY)}, 0)]:
        with pytest.raises(ValueError, match="must be a stage and n_show >= 1"):
            plateau_gallery(stages, (3, 4), n_show=n_show)


def test_samples_stand_beside_real_rows_on_one_scale():
    axes = sample_grid(GREY[:5] * 3, GREY, (3, 4), score=GenerationScore(0.9, 0.8, 1.1))
    assert axes.shape == (2, 5)
    for i in range(5):
        np.testing.assert_allclose(shown(axes[0, i]), GREY[i].reshape(3, 4))
        np.testing.assert_allclose(shown(axes[1, i]), 3 * GREY[i].reshape(3, 4))
    assert {ax.get_images()[0].get_clim() for ax in axes.flat} == {(0.0, GREY[:5].max())}
    figure = axes[0, 0].figure
    assert figure.get_supxlabel() == "precision 0.90, recall 0.80, novelty 1.10"
    assert {"real", "generated"} <= {ax.get_title() for ax in figure.axes}


def test_samples_in_colour_and_their_limits():
    assert sample_grid(COLOUR, COLOUR, (3, 4)).shape == (2, 7)
    many = np.tile(GREY, (9, 1))
    axes = sample_grid(many, many, (3, 4), score=0.5)
    assert axes.shape == (2, 25)
    assert axes[0, 0].figure.get_supxlabel() == "score 0.5"
    with pytest.raises(ValueError, match="a row on each side, got 7 real and 0 generated"):
        sample_grid(GREY[:0], GREY, (3, 4))


def test_given_axes_are_used():
    axes = Figure().subplots(2, 3)
    assert list(signatures(GREY, (3, 4), n_show=4, axes=axes)) == list(axes.flat)[:4]
    assert list(reconstructions(GREY, GREY, (3, 4), indices=(0, 1), axes=axes).flat) == list(axes.flat)
    with pytest.raises(ValueError, match="at least 7 Axes, got 6"):
        signatures(GREY, (3, 4), axes=axes)


@pytest.mark.parametrize(("H", "n_show", "rule"), [(GREY, 0, "n_show must be"), (GREY[:0], None, "at least one row")])
def test_signatures_refuse(H, n_show, rule):
    with pytest.raises(ValueError, match=rule):
        signatures(H, (3, 4), n_show=n_show)
