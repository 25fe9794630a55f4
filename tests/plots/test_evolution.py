"""A fit in motion: every picture in its cell, signatures on their own scale, rebuilt rows on that of their original."""

import numpy as np
import pytest

from rankscope.plots import evolution

g = np.random.default_rng(0)


def moments(count, n):
    return [(g.random((6, n)) * (t + 1), g.random((3, n))) for t in range(count)]


def cell(ax, i, j, h, w):
    gap = max(1, w // 14)
    (image,) = ax.get_images()
    return np.asarray(image.get_array())[i * (h + gap) :, j * (w + gap) :][:h, :w]


def test_a_line_is_a_picture_and_a_column_a_moment():
    shown, X = moments(4, 12), 2 * g.random((3, 12))
    left, right = evolution(shown, (3, 4), labels=[f"step {t}" for t in range(4)], originals=X, n_show=2)
    for i, t in np.ndindex(2, 4):
        H, made = shown[t]
        np.testing.assert_allclose(cell(left, i, t, 3, 4), H[i].reshape(3, 4) / H[i].max())
        np.testing.assert_allclose(cell(right, i, t, 3, 4), np.clip(made[i] / X[i].max(), 0, 1).reshape(3, 4))
        np.testing.assert_allclose(cell(right, i, 4, 3, 4), X[i].reshape(3, 4) / X[i].max())
    assert [label.get_text() for label in right.get_xticklabels()] == [
        "step 0",
        "step 1",
        "step 2",
        "step 3",
        "original",
    ]
    assert left.get_xlim() == right.get_xlim()


def test_colour_and_lines():
    left, _ = evolution(shown := moments(2, 36), (3, 3, 4), labels=["a", "b"])
    H = shown[1][0]
    np.testing.assert_allclose(cell(left, 4, 1, 3, 4)[..., 2], H[4].reshape(3, 3, 4)[2] / H[4].max())
    left, right = evolution(moments(2, 36), (36,), labels=["a", "b"])
    assert (len(left.get_lines()), len(right.get_lines())) == (10, 6)
    assert all(0 <= line.get_ydata().min() <= line.get_ydata().max() <= 5 for line in left.get_lines())


@pytest.mark.parametrize(("count", "labels", "n_show"), [(0, [], 5), (2, ["a"], 5), (1, ["a"], 0)])
def test_moments_and_labels_go_together(count, labels, n_show):
    with pytest.raises(ValueError, match=f"got {len(labels)} labels for {count} moments and n_show = {n_show}; pass"):
        evolution(moments(count, 12), (3, 4), labels=labels, n_show=n_show)
