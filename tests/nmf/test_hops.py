"""Near a minimum a fit looks for lower ones, never ends higher for it, and says what it did."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import laws
from rankscope import NMF, DeepNMF
from rankscope.nmf import hops
from rankscope.nmf.advance import advance, start
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.coarse import MOST_ITERATIONS
from rankscope.nmf.hops import COMPONENTS, GAIN, IN_VAIN, SHARE, Hopping, drawn_anew, look_around
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import Hals

DIGITS = (load_digits().data / 16).astype(np.float32)


def fit(X=DIGITS, r=16, **settings):
    return NMF(r, **dict(init="random", random_state=1, max_iter=500) | settings).fit(X)


def test_the_rule_leaves_large_matrices_alone():
    generator = laws.generator(0)
    assert Hopping.of((1_797, 64), generator) == Hopping(IN_VAIN, generator)
    assert Hopping.of((6_000, 784), generator) is not None
    assert Hopping.of((12_000, 784), generator) is None


def test_more_starts_end_in_the_lowest_minimum():
    errors = {h: np.array([fit(random_state=s, hops=h).reconstruction_err_ for s in range(8)]) for h in (0, "auto")}
    lowest = min(errors["auto"].min(), errors[0].min())
    reached = {h: int((e <= lowest * (1 + 1e-4)).sum()) for h, e in errors.items()}
    assert reached["auto"] > reached[0]
    assert np.median(errors["auto"]) < np.median(errors[0])


def test_a_fit_never_ends_higher_and_its_error_never_rises():
    for seed in range(4):
        hopped, plain = fit(random_state=seed), fit(random_state=seed, hops=0)
        assert hopped.reconstruction_err_ <= plain.reconstruction_err_ * (1 + 1e-4)
        assert np.diff(hopped.history_["relative_error"]).max() < 1e-6


def test_it_is_reported_and_the_same_from_the_same_seed():
    fits = [fit() for _ in range(2)]
    assert fits[0].hops_ == fits[1].hops_
    assert fits[0].hops_.tried >= IN_VAIN
    assert fits[0].history_.attrs["hops"]["tried"] == fits[0].hops_.tried
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)
    assert fit(hops=0).hops_ is None
    assert fit(stop="none", max_iter=20).hops_ is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_looks_again_while_that_takes_no_more_than_its_share():
    once, again = fit(tol=1e-3), fit(tol=1e-9, max_iter=300)
    assert once.hops_.tried < again.hops_.tried
    longest = 10 * MOST_ITERATIONS  # Of one look, generously.
    assert again.hops_.iterations <= SHARE * again.n_iter_ + longest
    assert again.reconstruction_err_ <= once.reconstruction_err_ * (1 + GAIN)


def test_hops_may_go_by_way_of_higher_minima(monkeypatch):
    A, rule = torch.from_numpy(DIGITS).double(), Hals.accelerated((1797, 64), 8)
    blocks = RowBlocks.of(A)
    state = start(blocks, laws.random_chain(0, (1797, 64), (8,)), rule)
    seen = []

    def noted(blocks, chain, generator):
        seen.append(chain)
        return drawn_anew(blocks, chain, generator)

    monkeypatch.setattr(hops, "drawn_anew", noted)
    lowest, _ = look_around(blocks, state, rule, (NO_PENALTY,) * 2, Hopping(6, laws.generator(1)))
    errors = [float((A - chain.product()).square().sum()) for chain in seen]
    assert any(later > before for before, later in pairwise(errors))
    assert float((A - lowest.chain.product()).square().sum()) <= min(errors) * (1 + GAIN)


def test_so_many_in_vain_and_no_more():
    chain, rule = laws.random_chain(0, (60, 20), (3,)), Hals(4, 8, momentum=True)
    A = chain.product()  # Its own minimum has error 0.
    state = start(RowBlocks.of(A), chain, rule)
    after, found = look_around(RowBlocks.of(A), state, rule, (NO_PENALTY,) * 2, Hopping(3, laws.generator(0)))
    assert (found.tried, found.gained) == (3, 0)
    assert after is state


@pytest.mark.parametrize("sizes", [(5,), (6, 5)])
def test_components_are_drawn_from_what_the_others_leave(sizes):
    chain = laws.random_chain(2, (40, 15), sizes)
    A = chain.product()
    A[7] += 100 * torch.eye(15, dtype=A.dtype)[3]  # By far the worst row is drawn.
    drawn = drawn_anew(RowBlocks.of(A), chain, laws.generator(0))
    changed = [k for k in range(5) if not torch.equal(drawn.last[k], chain.last[k])]
    assert len(changed) == COMPONENTS
    kept = chain.last.clone()
    kept[changed] = 0
    others = torch.linalg.multi_dot([*chain.factors[:-1], kept]) if len(sizes) > 1 else chain.first @ kept
    expected = (A - others)[7].clamp(min=0)
    assert any(torch.allclose(drawn.last[k], expected) for k in changed)
    for F, G in zip(drawn.factors[:-1], chain.factors[:-1], strict=True):
        assert torch.equal(F, G)


def test_nothing_is_drawn_where_nothing_is_left():
    chain = Chain((torch.zeros(4, 2, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)))
    assert drawn_anew(RowBlocks.of(torch.zeros(4, 3, dtype=torch.float64)), chain, laws.generator(0)) is chain


def test_a_state_of_a_hop_is_whole():
    A = torch.from_numpy(DIGITS).double()
    rule = Hals.accelerated((1797, 64), 8)
    state = start(RowBlocks.of(A), laws.random_chain(0, (1797, 64), (8,)), rule)
    after, _ = look_around(RowBlocks.of(A), state, rule, (NO_PENALTY,) * 2, Hopping(2, laws.generator(0)))
    explicit = float((A - after.chain.product()).square().sum())
    assert float(A.square().sum()) + 2 * after.trace.objective() == pytest.approx(explicit, rel=1e-9)
    advance(RowBlocks.of(A), after, rule, (NO_PENALTY,) * 2)


def test_what_takes_no_hops_says_so():
    with pytest.raises(ValueError, match="hops must be a whole number from 0"):
        fit(hops=-1)
    for settings in ({"solver": "mu"}, {"inner_sweeps": 1}, {"stop": "none"}, {"keep_plateaus": True}):
        with pytest.raises(ValueError, match="hops=2 needs solver='hals'"):
            fit(hops=2, **settings)
    assert DeepNMF((8, 5), max_iter=40, random_state=0).fit(DIGITS[:300]).hops_ is None
    assert DeepNMF((8, 5), max_iter=200, tol=1e-3, hops=2, random_state=0).fit(DIGITS[:300]).hops_ is not None
