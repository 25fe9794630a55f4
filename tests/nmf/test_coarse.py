"""Where rows are many, samples of them come first, and the fit still ends where it should."""

import numpy as np
import pytest
import torch

import laws
from rankscope import NMF
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.coarse import DRAWS, Sampling, refine
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import Hals


def tall(m=14_000, dtype=np.float32):
    rng = np.random.default_rng(0)
    X = rng.gamma(0.5, size=(m, 6)) @ rng.gamma(0.5, size=(6, 20)) + 0.05 * rng.random((m, 20))
    return X.astype(dtype)


def test_the_rule_asks_for_many_rows():
    generator = laws.generator(0)
    assert Sampling.of((60_000, 784), (50,), generator).rows == 4 * 784
    assert Sampling.of((100_000, 20), (30, 10), generator).rows == 60 * 30
    assert Sampling.of((12_000, 784), (50,), generator).rows == 3000
    assert Sampling.of((11_999, 784), (50,), generator) is None
    assert Sampling.of((1_797, 64), (16,), generator) is None


def test_a_state_of_the_best_sample_goes_on():
    A = torch.from_numpy(tall(dtype=np.float64))
    chain = laws.random_chain(1, (14_000, 20), (6,))
    state, coarse = refine(
        RowBlocks.of(A), chain, Hals(4, 8, momentum=True), (NO_PENALTY,) * 2, Sampling(1000, laws.generator(0))
    )
    assert len(coarse.errors) == len(coarse.iterations) == DRAWS
    explicit = float((A - state.chain.product()).square().sum())
    assert float(A.square().sum()) + 2 * state.trace.objective() == pytest.approx(explicit, rel=1e-9)
    assert min(coarse.errors) <= explicit / float(A.square().sum()) < 1e-3
    torch.testing.assert_close(state.S, state.chain.first.mT @ A)


def test_it_is_reported_and_the_same_from_the_same_seed():
    X = tall()
    fits = [NMF(6, init="random", random_state=3, max_iter=20, stop="none").fit(X) for _ in range(2)]
    assert fits[0].coarse_ is not None
    assert fits[0].coarse_.rows == 1000
    assert fits[0].history_.attrs["coarse"]["rows"] == 1000
    for F, G in zip(fits[0].factors_, fits[1].factors_, strict=True):
        np.testing.assert_array_equal(F, G)


def test_it_starts_lower_and_ends_no_higher():
    X = tall()
    settings = dict(init="random", random_state=0, max_iter=400, tol=1e-4)
    coarse, fine = NMF(6, **settings).fit(X), NMF(6, coarse=False, **settings).fit(X)
    assert fine.coarse_ is None
    first = [model.history_["relative_error"].iloc[0] for model in (coarse, fine)]
    assert first[0] < 0.1 * first[1]
    assert coarse.reconstruction_err_ <= 1.02 * fine.reconstruction_err_
    assert coarse.health_.kkt_residual <= 2e-4


def test_penalties_keep_their_weight():
    X = tall()
    settings = dict(init="random", random_state=0, max_iter=300, tol=1e-5, l1=(0.1, 200.0), l2=(0.1, 100.0))
    coarse, fine = (NMF(6, coarse=on, **settings).fit(X) for on in ("auto", False))
    assert coarse.components_.sum() == pytest.approx(fine.components_.sum(), rel=0.05)


@pytest.mark.parametrize(
    "settings", [dict(inner_sweeps=1), dict(solver="mu"), dict(stop="plateau"), dict(coarse=False)]
)
def test_it_leaves_alone_what_is_studied_step_by_step(settings):
    model = NMF(3, init="random", random_state=0, max_iter=3, **settings)
    with pytest.warns():
        model.fit(tall())
    assert model.coarse_ is None


def test_where_it_cannot_be_it_is_refused():
    with pytest.raises(ValueError, match=r"coarse=True needs solver='hals'.*X is 30×20"):
        NMF(3, coarse=True).fit(tall(30))
    with pytest.raises(ValueError, match="coarse must be True, False or 'auto', got 'yes'"):
        NMF(3, coarse="yes").fit(tall(30))
