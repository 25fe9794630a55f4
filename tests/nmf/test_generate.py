"""New activations live where the fitted ones do, and the score knows good samples from bad."""

import numpy as np
import pytest

from rankscope.nmf import NMF
from rankscope.nmf.generate import generation_score, sample_activations


@pytest.fixture(scope="module")
def model(digits):
    return NMF(16, random_state=0, max_iter=100, stop="none").fit(digits)


def test_activations_are_nonnegative_sparse_correlated_and_new(model):
    W = model.factors_[0]
    new = sample_activations(W, model.components_ @ model.components_.T, 3000, np.random.default_rng(0))
    assert (new >= 0).all()
    assert abs((new < 1e-12).mean() - (W < 1e-12).mean()) < 0.25
    assert np.abs(np.corrcoef(new.T) - np.corrcoef(W.T)).mean() < 0.1
    assert np.abs(new.mean(0) / W.mean(0) - 1).max() < 0.2
    assert np.abs(new[:, None] - W[None, :200]).max(-1).min(1).min() > 0


def test_what_every_neighbour_lacks_is_lacking():
    W = np.zeros((50, 3))
    W[:, 0] = np.linspace(1, 2, 50)
    new = sample_activations(W, np.eye(3), 100, np.random.default_rng(0))
    assert (new[:, 1:] == 0).all()
    assert new[:, 0].min() >= 1
    assert new[:, 0].max() <= 2


def test_samples_are_plausible_varied_and_no_copies(model):
    real = model.inverse_transform(model.factors_[0])
    score = generation_score(model.sample(1000, random_state=0), real, np.random.default_rng(0))
    assert score.precision > 0.95
    assert score.recall > 0.75
    assert score.novelty > 0.3


def test_the_score_knows_bad_samples(model):
    rng = np.random.default_rng(0)
    real = model.inverse_transform(model.factors_[0])
    independent = rng.permuted(model.factors_[0], axis=0) @ model.components_
    assert generation_score(independent, real, rng).precision < 0.3
    one_digit_only = real[:40].repeat(5, axis=0)
    assert generation_score(one_digit_only, real, rng).recall < 0.2
    assert generation_score(real[:500], real, rng, most=10_000).novelty == 0
    halves = np.array_split(rng.permutation(real), 2)
    reference = generation_score(*halves, rng)
    assert min(reference.precision, reference.recall) > 0.85


def test_same_seed_same_samples(model):
    np.testing.assert_array_equal(model.sample(5, random_state=3), model.sample(5, random_state=3))
    assert not np.array_equal(model.sample(5, random_state=3), model.sample(5, random_state=4))
    assert model.sample(5).shape == (5, 64)


def test_one_fitted_row_can_only_be_repeated():
    model = NMF(1, max_iter=50).fit(np.ones((1, 6)))
    np.testing.assert_allclose(model.sample(2), np.ones((2, 6)), rtol=1e-3)
