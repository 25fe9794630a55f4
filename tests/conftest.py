"""Fixtures that several rooms share."""

import os

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import laws

# Workers of a parallel run share the cores; threads of each would wait for one another.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """The scikit-learn digits (1797×64), float64 in [0, 1]."""
    return load_digits().data / 16


@pytest.fixture(scope="session")
def mnist() -> np.ndarray:
    """The MNIST training images (60000×784), float32 in [0, 1], where this machine has them."""
    from rankscope.datasets import load_mnist
    from rankscope.errors import MissingDataError

    try:
        return load_mnist()[0]
    except MissingDataError as absent:
        pytest.skip(f"needs MNIST: {absent}; RANKSCOPE_DATA is {os.environ.get('RANKSCOPE_DATA', 'not set')}")


@pytest.fixture(params=[0, 1, 2])
def planted(request: pytest.FixtureRequest) -> laws.Planted:
    """An exact nonnegative product of a known rank."""
    return laws.planted(seed=request.param)
