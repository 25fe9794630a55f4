"""The traces say what they hold, the score counts what it says, and the detector meets its targets on a few of them."""

import math

import numpy as np
import pytest

from rankscope.studies.detection import FAMILIES, LONG, MAX_ROWS, Call, Trace, Truth, online, score, traces


@pytest.fixture(scope="module")
def sample():
    return traces(42, seed=7)


def test_families_take_turns_and_a_seed_decides(sample):
    assert [trace.family for trace in sample[:14]] == [*FAMILIES, *FAMILIES]
    for a, b in zip(sample[:7], traces(7, seed=7), strict=True):
        np.testing.assert_array_equal(a.rank, b.rank)
        assert a.truths == b.truths
    assert not np.array_equal(sample[0].rank[:50], traces(1, seed=8)[0].rank[:50])


def test_traces_are_what_a_detector_can_take(sample):
    for trace in sample:
        assert len(trace.steps) == len(trace.error) == len(trace.rank) <= MAX_ROWS + 1
        assert np.all(np.diff(trace.steps) > 0)
        assert np.all(np.isfinite(trace.error))
        assert np.all(trace.rank > 0.7)


def test_true_plateaus_are_flat_and_apart_and_drifts_have_none(sample):
    """Within each, the level is held to 10% but for noise and spikes, which medians pass over."""
    for trace in sample:
        assert bool(trace.truths) <= (trace.family not in ("slow drift", "no plateau"))
        last = -1
        for truth in trace.truths:
            assert last < truth.start < truth.end <= trace.steps[-1] + np.diff(trace.steps)[0]
            last = truth.end
            inside = trace.rank[(trace.steps >= truth.start) & (trace.steps <= truth.end)]
            for part in np.array_split(inside, 3):
                assert np.median(part) == pytest.approx(truth.level, rel=0.1)


def test_one_of_the_three_is_short(sample):
    for trace in sample:
        if trace.family == "three, one short":
            assert sum(truth.length > LONG for truth in trace.truths) == 2
            assert len(trace.truths) == 3


def flat(*truths):
    steps = np.arange(1000)
    return Trace("", steps, np.ones(1000), np.ones(1000), truths)


LONG_ONE, SHORT_ONE, LATE_ONE = Truth(99, 199, 2.0), Truth(299, 349, 3.0), Truth(499, 999, 4.0, "locked")


@pytest.mark.parametrize(
    ("calls", "found", "false", "wrong_kind"),
    [
        ([], 0, 0, 0),
        ([Call(99, 199, 2.0)], 1, 0, 0),
        ([Call(299, 349, 3.0)], 0, 0, 0),  # short: neither asked for nor false
        ([Call(520, 900, 4.1)], 1, 0, 1),  # the kind is another matter
        ([Call(520, 900, 4.1, kind="locked")], 1, 0, 0),
        ([Call(99, 199, 2.4)], 0, 1, 0),  # the wrong level
        ([Call(10, 110, 2.0)], 0, 1, 0),  # hardly overlaps
        ([Call(99, 140, 2.0), Call(145, 199, 2.0)], 1, 1, 0),  # one plateau called twice
        ([Call(400, 420, 4.0)], 0, 1, 0),
        ([Call(99, 199, 2.0), Call(299, 349, 3.0), Call(499, 999, 4.0, kind="locked")], 2, 0, 0),
    ],
)
def test_calls_and_truths_are_matched_one_to_one(calls, found, false, wrong_kind):
    result = score(flat(LONG_ONE, SHORT_ONE, LATE_ONE), calls)
    assert result.wanted == (LONG_ONE.length, LATE_ONE.length)
    assert (len(result.found), result.false, result.wrong_kind) == (found, false, wrong_kind)


def test_the_delay_is_from_the_true_start_to_the_call():
    result = score(flat(LONG_ONE), [Call(90, 199, 2.0, called_at=149)])
    assert result.delays == pytest.approx((math.log(150 / 100),))


def test_the_detector_finds_them_and_little_else(sample):
    """Loosely: docs/plateau-detection.md has the figures of 1,000."""
    scores = [score(trace, online(trace)) for trace in sample]
    wanted, found = sum(len(s.wanted) for s in scores), sum(len(s.found) for s in scores)
    assert wanted > 35
    assert found >= 0.95 * wanted
    assert sum(s.false > 0 for s in scores) <= 2
    assert all(s.wrong_kind == 0 for s in scores)
