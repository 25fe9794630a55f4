"""One iteration against the two bare products that it cannot do without, X@H.T and W.T@X; mu against scikit-learn's."""

import torch
from sklearn.decomposition import non_negative_factorization

from racing import Claim, mnist, quiet, random_start, ratios, report
from rankscope import NMF, workers
from rankscope.nmf.advance import advance, start
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import make_rule

TARGETS = {("hals", 20): 0.95, ("hals", 50): 1.10, ("mu", 20): 0.80, ("mu", 50): 0.80}
ITERATIONS = 10


def against_bare_products(X, rounds: int) -> list[Claim]:
    A = torch.from_numpy(X)
    claims = []
    for (solver, r), target in TARGETS.items():
        W, H = (torch.from_numpy(F) for F in random_start(X, r, 0))
        blocks, rule, penalties = RowBlocks.of(A), make_rule(solver), (NO_PENALTY,) * 2
        begin = start(blocks, Chain((W, H)), rule)

        def ours(begin=begin, blocks=blocks, rule=rule, penalties=penalties) -> None:
            state = begin
            with workers.one_thread():  # As in ``fit``.
                for _ in range(ITERATIONS):
                    state, _ = advance(blocks, state, rule, penalties)

        def bare(W=W, H=H) -> None:
            for _ in range(ITERATIONS):
                torch.mm(A, H.T)
                torch.mm(W.T, A)

        name = f"one {solver} iteration, r={r}, 12,000×784 / two bare products"
        claims.append(Claim(name, target, ratios(ours, bare, rounds=rounds, before=1)))
    return claims


def against_scikit_learn(X, rounds: int, r: int = 50, iterations: int = 30) -> Claim:
    W0, H0 = random_start(X, r, 0)
    model = NMF(r, solver="mu", init="custom", max_iter=iterations, stop="none")
    arguments = dict(n_components=r, init="custom", solver="mu", tol=0, max_iter=iterations)
    measured = ratios(
        lambda: model.fit(X, W=W0, H=H0),
        lambda: non_negative_factorization(X, W0.copy(), H0.copy(), **arguments),
        rounds=rounds,
    )
    return Claim("mu, scikit-learn's iterates, 12,000×784, r=50 / scikit-learn's mu", 0.7, measured, "whole fits of 30")


def main(rounds: int = 11) -> list[Claim]:
    quiet()
    X = mnist(12_000)
    return [*against_bare_products(X, rounds), against_scikit_learn(X, 3)]


if __name__ == "__main__":
    report(main())
