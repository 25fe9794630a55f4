"""Intervals contain what they should, pairs cancel what they share, and the front is not beaten."""

import numpy as np
import pytest

from rankscope.studies.weight_statistics import bootstrap_mean, compare, pareto


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        interval = bootstrap_mean(rng.normal(3.0, 1.0, size=20))
        hits += interval.low <= 3.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.98


def test_one_seed_has_no_interval_and_resolves_nothing():
    assert np.isnan(bootstrap_mean([70.0])[1:]).all()
    comparison = compare("a", [70.0], "b", [50.0])
    assert not comparison.resolved
    assert "single seed: not resolved" in comparison.sentence()


def test_few_seeds_resolve_nothing():
    comparison = compare("a", [70.0, 71.0], "b", [50.0, 51.0])
    assert not comparison.resolved
    assert comparison.sentence() == ("a is 20.00 points above b on 2 paired seeds: not resolved, an interval takes 5.")
    assert compare("a", [70.0] * 5, "b", [50.0] * 5).resolved


def test_a_pair_is_judged_by_its_differences():
    noise = np.random.default_rng(1).normal(0, 5, size=10)  # Shared: far larger than the difference.
    comparison = compare("worse", 50 + noise, "better", 51 + noise)
    assert (comparison.better, comparison.worse) == ("better", "worse")
    assert comparison.resolved
    assert comparison.sentence() == (
        "better is 1.00 points above worse (95% interval 1.00 to 1.00, 10 paired seeds): resolved."
    )
    other = np.random.default_rng(2).normal(0, 5, size=10)
    assert not compare("a", 50 + noise, "b", 50.2 + other).resolved


def test_a_diverged_seed_is_not_dropped():
    assert np.isnan(bootstrap_mean([70.0, np.nan]).mean)
    assert "cannot be compared" in compare("a", [1.0, np.nan], "b", [1.0, 2.0]).sentence()


def test_pairs_of_different_seeds_are_refused():
    with pytest.raises(ValueError, match="equally many, got 2 and 1"):
        compare("a", [1.0, 2.0], "b", [1.0])
    with pytest.raises(ValueError, match="at least one number"):
        bootstrap_mean([])


def test_the_front_is_what_nothing_beats():
    assert pareto([1, 2, 3, 3, 4], [10, 30, 20, 40, np.nan]).tolist() == [True, True, False, True, False]
    assert pareto([1, 1], [10, 10]).tolist() == [True, True]
