"""Theil–Sen slopes and the thinning of a trace."""

import math

import numpy as np
import pytest

from rankscope.trace.plateau import PlateauDetector
from rankscope.trace.slopes import Points, theil_sen


def test_a_line_is_recovered_exactly_and_in_spite_of_outliers():
    x = np.sort(np.random.default_rng(0).uniform(size=40))
    Y = np.array([2 - 3 * x, 0.5 * x])
    assert theil_sen(x, Y).values == pytest.approx([-3, 0.5], rel=1e-12)
    Y[:, ::5] += 100
    assert theil_sen(x, Y).values == pytest.approx([-3, 0.5], rel=0.3)


def test_scatter_is_the_standard_deviation_of_the_noise_whatever_the_trend():
    x = np.linspace(0, 1, 4000)
    noise = np.random.default_rng(0).normal(size=(2, 4000)) * [[0.1], [0.02]]
    scatter = np.median(
        [theil_sen(x[i : i + 40], (noise + 5 * x)[:, i : i + 40]).scatter for i in range(0, 4000, 40)], axis=0
    )
    assert scatter == pytest.approx([0.1, 0.02], rel=0.1)


def test_a_point_is_the_mean_of_the_finite_steps_since_the_last():
    points = Points()
    assert points.offer(999, 2.0, 0.5)
    points.wait(0.0025)  # 2.5 steps at step 999: three
    offers = [(1000, 3.0, 0.2), (1001, math.nan, 0.1), (1002, 5.0, 0.4), (1003, math.inf, 0.9)]
    assert [points.offer(*offer) for offer in offers] == [False, False, True, False]
    assert points.steps == [999, 1002]
    assert points.x == pytest.approx(np.log([1000, 1003]))
    assert points.error == pytest.approx([0.5, 0.3])
    assert points.log_rank == pytest.approx(np.log([2.0, 4.0]))


def test_slopes_span_the_whole_range_asked_for():
    points = Points()
    for step in range(300):
        points.offer(step, 2.0, 0.5 if step < 150 else 0.5 * math.exp(-0.05 * (step - 150)))
    x, y = np.array(points.x[100:]), np.array(points.log_error[100:])
    every = theil_sen(x, np.array([y, y])).values[0]
    assert points.slopes(100, max_points=20).values[1] == pytest.approx(every, rel=0.3)
    assert every < -1


def test_window_needs_width_and_steps_and_points():
    points = Points()
    for step in range(0, 2000, 10):
        points.offer(step, 2.0, 0.5)
    steps = [
        points.steps[points.window_begin(width, min_steps=min_steps, min_points=min_points) or 0]
        for width, min_steps, min_points in [(0.5, 1, 2), (0.01, 300, 2), (0.01, 1, 41)]
    ]
    assert steps == [1200, 1690, 1590]  # 1991·e^−½ − 1 = 1206; 1990 − 300; the 41st from the end
    assert points.window_begin(9.0, min_steps=1, min_points=2) is None
    assert points.window_begin(0.1, min_steps=1, min_points=201) is None


def test_a_fit_that_has_only_begun_does_not_stand_still():
    """The error's logarithm is nearly flat on the way down from 1; what has been learned is not."""
    detector = PlateauDetector()
    for step in range(20_000):
        x = math.log1p(step)
        error = 1 - 0.7 / (1 + math.exp(-2.5 * (x - 6)))
        detector.update(step, error, 1.0)
    (plateau,) = detector.finish()
    assert plateau.relative_error < 0.35
    assert plateau.start > math.exp(6.5)
