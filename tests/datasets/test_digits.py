"""The digits are scikit-learn's, scaled to [0, 1]."""

import numpy as np
from sklearn import datasets

from rankscope.datasets import load_digits


def test_digits_are_the_pixels_over_16():
    X, dataset = load_digits()
    pixels, labels = datasets.load_digits(return_X_y=True)
    assert X.shape == (1797, 64)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.min() == 0
    assert X.max() == 1
    np.testing.assert_array_equal(X * 16, pixels)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert (dataset.name, dataset.shape) == ("digits", (8, 8))
