"""Extrapolation makes iterations count for more, and never shows a rise."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf.momentum import Momentum
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import Hals

FAST = Hals(4, 8, momentum=True)


@pytest.mark.parametrize("sizes", [(5,), (6, 4)])
def test_no_step_of_a_run_raises_the_objective(sizes):
    for seed in range(30):
        A = torch.rand(30, 25, dtype=torch.float64, generator=laws.generator(seed))
        chain = laws.random_chain(seed, (30, 25), sizes)
        penalties = [NO_PENALTY if seed % 2 else Penalty(l1=0.1, l2=0.2)] * chain.depth
        seen = []
        laws.run(
            A, chain, FAST, 60, penalties=penalties, callback=lambda _, state, seen=seen: seen.append(state.factors)
        )
        values = [laws.objective(A, type(chain)(factors), penalties) for factors in seen]
        assert all(after <= before + 1e-10 * values[0] for before, after in pairwise(values)), seed


def test_it_gets_further_than_as_many_plain_sweeps(digits):
    A = torch.from_numpy(digits[:500])
    chain = laws.random_chain(0, tuple(A.shape), (10,))
    errors = {rule: laws.run(A, chain, rule, 60).history["relative_error"].to_numpy() for rule in (FAST, Hals(4, 8))}
    assert errors[FAST][-1] < errors[Hals(4, 8)][-1]
    assert np.argmax(errors[FAST] <= errors[Hals(4, 8)][-1]) < 45


def test_it_reaches_an_exact_product_where_plain_sweeps_crawl():
    A, _ = laws.planted(3, (60, 40), (5,))
    chain = laws.random_chain(8, (60, 40), (5,))
    fast, plain = (laws.run(A, chain, rule, 400).history["relative_error"].iloc[-1] for rule in (FAST, Hals(4, 8)))
    assert fast < 1e-12
    assert fast < 1e-2 * plain


def test_momentum_grows_while_it_helps_and_shrinks_when_it_does_not():
    chain, further = laws.random_chain(0, (6, 5), (2,)), laws.random_chain(1, (6, 5), (2,))
    still = Momentum.still()
    assert still.ahead(chain) is chain
    moved = still.carried(chain)
    expected = (further.last + moved.beta * (further.last - chain.last)).clamp(min=0)
    torch.testing.assert_close(moved.ahead(further).last, expected)
    assert moved.ahead(further).first is further.first
    again = moved.carried(further)
    assert again.beta > moved.beta
    restarted = again.restarted()
    assert restarted.ahead(chain) is chain
    assert restarted.beta < again.beta == restarted.cap
