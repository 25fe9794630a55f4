"""The penalties' gradients come apart into a part that shrinks and a part that grows."""

import pytest
import torch

from rankscope.nmf.penalty import NO_PENALTY, Penalty

PENALTIES = [Penalty(l1=0.5), Penalty(l2=0.5), Penalty(separation=0.5), Penalty(0.1, 0.2, 0.3)]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_parts_are_nonnegative_and_their_difference_is_the_gradient(penalty):
    F = torch.rand(5, 7, dtype=torch.float64)
    F[1] = 0
    positive, negative = (torch.as_tensor(part) for part in penalty.gradient_parts(F))
    assert (positive >= 0).all()
    assert (negative >= 0).all()
    leaf = F.clone().requires_grad_()
    penalty.value(leaf).backward()
    torch.testing.assert_close((positive - negative).expand_as(F).double(), leaf.grad, rtol=1e-9, atol=1e-9)


def test_no_penalty_costs_nothing():
    F = torch.rand(3, 4)
    assert float(NO_PENALTY.value(F)) == 0
    assert NO_PENALTY.gradient_parts(F) == (0.0, 0.0)
