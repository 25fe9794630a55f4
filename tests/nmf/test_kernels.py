"""The compiled loops are what the equations say."""

import math

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf import kernels
from rankscope.nmf.rules import adam


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
    step, v = adam.Step(0.9, 0.999, 0.02, 1.7, 1e-8, least), v.square()
    compiled = adam._moved_on_cpu(theta, gradient, adam.Moments(3, m.numpy(), v.numpy()), step)
    for ours, expected in zip(compiled, adam._moved(theta, gradient, adam.Moments(3, m, v), step), strict=True):
        torch.testing.assert_close(
            torch.as_tensor(ours), expected, rtol=8 * torch.finfo(dtype).eps, atol=1e-7, equal_nan=True
        )
