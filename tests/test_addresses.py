"""What lies at an address is the tensor's own memory."""

import numpy as np
import pytest
import torch

from rankscope.addresses import LIKE, at, at_or_zeros
from rankscope.compiled import compiled


@compiled
def double(like, address, m, n):
    A = at(address, (m, n), like)
    for i in range(m):
        for j in range(n):
            A[i, j] *= 2


@compiled
def total(like, address, n):
    return at_or_zeros(address, n, like).sum()


@pytest.mark.parametrize("dtype", LIKE)
def test_a_tensor_is_read_and_written_where_it_is(dtype):
    A = torch.arange(12, dtype=dtype).reshape(3, 4)
    double(LIKE[dtype], A.data_ptr(), 3, 4)
    assert torch.equal(A, 2 * torch.arange(12, dtype=dtype).reshape(3, 4))
    assert LIKE[dtype].dtype == np.dtype(str(dtype).removeprefix("torch."))


def test_no_address_stands_for_zeros():
    bias = torch.ones(5)
    assert total(LIKE[torch.float32], bias.data_ptr(), 5) == 5
    assert total(LIKE[torch.float32], 0, 5) == 0
