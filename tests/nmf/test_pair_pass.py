"""An iteration in one call is the same as factor by factor."""

import pytest
import torch

import laws
from rankscope.nmf import passes
from rankscope.nmf.advance import advance, start, take_turns
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.momentum import Momentum
from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules import make_rule

PLAIN, PENALIZED = (Penalty(), Penalty()), (Penalty(l1=0.1, l2=0.2), Penalty(l1=0.3, l2=0.1))


def problem(shape=(300, 140), r=7, dtype=torch.float64, team=1):
    generator = torch.Generator().manual_seed(0)
    A, W, H, before = (
        torch.rand(size, generator=generator, dtype=dtype)
        for size in (shape, (shape[0], r), (r, shape[1]), (r, shape[1]))
    )
    return RowBlocks.of(A, among=team), Chain((W, H)), Momentum(0.7, 1.0, (before,))


def by_factor(monkeypatch):
    monkeypatch.setattr(passes, "one_pass", lambda blocks, R: False)


@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("penalties", [PLAIN, PENALIZED], ids=["plain", "penalized"])
@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("team", [1, 3])
def test_one_call_is_both_passes(solver, penalties, beyond, team, monkeypatch):
    blocks, chain, momentum = problem(team=team)
    given = dict(momentum=momentum if beyond else None, measure=True)
    ours, residual = take_turns(blocks, chain, make_rule(solver), penalties, **given)
    by_factor(monkeypatch)
    theirs, expected = take_turns(blocks, chain, make_rule(solver), penalties, **given)
    assert ours.level is not None
    assert theirs.level is None
    read = [(s.G, s.S, torch.tensor(s.inner), *s.chain.factors, s.chain.right_gram(1)) for s in (ours, theirs)]
    assert laws.largest_difference(*read) < 1e-10
    assert residual == pytest.approx(expected, rel=1e-9)
    assert ours.objective(penalties) == pytest.approx(theirs.objective(penalties), rel=1e-12)


def test_fits_go_the_same_way(monkeypatch):
    blocks, chain, _ = problem((120, 60), 5)
    rule, ends = make_rule("hals", inner_sweeps="auto", shape=blocks.shape, rank=5), []
    for _ in range(2):
        state = start(blocks, chain, rule, PLAIN)
        for _ in range(30):
            state, _ = advance(blocks, state, rule, PLAIN)
        ends.append(state.chain.factors)
        by_factor(monkeypatch)
    assert laws.largest_difference(*ends) < 1e-7


def test_small_integers_take_it_too_and_so_do_missing_entries(monkeypatch):
    _, chain, _ = problem()
    A = (100 * torch.rand(300, 140, generator=torch.Generator().manual_seed(1))).to(torch.uint8)
    observed = A > 20
    chain = Chain(tuple(F.float() for F in chain.factors))
    for blocks in (RowBlocks.of(A), RowBlocks.of(A, observed=observed)):
        assert passes.one_pass(blocks, chain.last)
        ours, _ = take_turns(blocks, chain, make_rule("hals"), PLAIN)
        with monkeypatch.context() as patch:
            by_factor(patch)
            theirs, _ = take_turns(blocks, chain, make_rule("hals"), PLAIN)
        assert laws.largest_difference(ours.chain.factors, theirs.chain.factors) < 1e-3
