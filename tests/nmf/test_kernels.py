"""The compiled sweeps are the coordinate descent that the equations say."""

import math

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf import kernels
from rankscope.nmf.rules import adam


def problem(m, r, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    R = rng.random((r, 40))
    return rng.random((m, r)).astype(dtype), (R @ R.T).astype(dtype), (rng.random((m, 40)) @ R.T).astype(dtype)


def swept(F, Q, C, sweeps):
    F = F.copy()
    for _ in range(sweeps):
        for j in range(F.shape[1]):
            if Q[j, j] > 0:
                F[:, j] = np.maximum(F[:, j] - (F @ Q[:, j] - C[:, j]) / Q[j, j], 0)
    return F


@pytest.mark.parametrize("m", [1, 127, 128, 300])
@pytest.mark.parametrize("r", [1, 2, 3, 4, 9])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-3)])
def test_rows_are_swept_coordinate_by_coordinate(m, r, dtype, rtol):
    F, Q, C = problem(m, r, dtype)
    for layout in (np.ascontiguousarray, np.asfortranarray):
        ours = layout(F.copy())
        kernels.sweep_rows(ours, Q, layout(C), 3)
        expected = swept(F, Q, C, 3)
        np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * expected.max())


def test_a_dead_component_stays_and_nan_is_not_hidden():
    F, Q, C = problem(5, 3)
    Q[1], Q[:, 1] = 0, 0
    ours = F.copy()
    kernels.sweep_rows(ours, Q, C, 2)
    np.testing.assert_array_equal(ours[:, 1], F[:, 1])
    C[2, 0] = np.nan
    kernels.sweep_rows(F, Q, C, 1)
    assert np.isnan(F[2, 0])
    assert np.isfinite(F[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_entries_are_swept_one_by_one(l2):
    rng = np.random.default_rng(1)
    L, R = rng.random((20, 4)), rng.random((3, 30))
    P, Q, C, F = L.T @ L, R @ R.T, L.T @ rng.random((20, 30)) @ R.T, rng.random((4, 3))
    expected = F.copy()
    for i in range(4):
        for j in range(3):
            slope = (P @ expected @ Q - C)[i, j] + l2 * expected[i, j]
            expected[i, j] = max(expected[i, j] - slope / (P[i, i] * Q[j, j] + l2), 0)
    kernels.sweep_entries(F, P, Q, C, l2, 1)
    np.testing.assert_allclose(F, expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("least", [0.0, -math.inf])
def test_adam_moves_as_the_operations_of_any_device_say(dtype, least):
    theta, gradient, m, v = (torch.randn(1001, generator=laws.generator(k)).to(dtype) for k in range(4))
    gradient[7] = torch.nan  # is not hidden
    given = theta, gradient, adam.Moments(3, m, v.square()), adam.Step(0.9, 0.999, 0.02, 1.7, 1e-8, least)
    for ours, expected in zip(adam._moved_on_cpu(*given), adam._moved(*given), strict=True):
        torch.testing.assert_close(ours, expected, rtol=8 * torch.finfo(dtype).eps, atol=1e-7, equal_nan=True)
