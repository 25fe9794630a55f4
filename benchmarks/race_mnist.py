"""Seconds to the error that scikit-learn's coordinate descent has after 200 iterations, on MNIST, from one start."""

from sklearn.decomposition import non_negative_factorization

from racing import PAUSE, Claim, mnist, quiet, random_start, report, seconds, squared_error
from rankscope import NMF

TARGETS = {50: 1 / 15, 20: 1 / 8}


def race(X, r: int, rounds: int) -> Claim:
    """Every round from a start of its own; both sides from the same one."""
    ratios, notes = [], []
    for seed in range(rounds):
        W0, H0 = random_start(X, r, seed)
        peer = []
        theirs = seconds(
            lambda W0=W0, H0=H0, peer=peer: peer.extend(
                non_negative_factorization(
                    X, W0.copy(), H0.copy(), n_components=r, init="custom", solver="cd", tol=0, max_iter=200
                )
            ),
            pause=PAUSE,
        )
        target = squared_error(X, peer[0], peer[1])
        model = NMF(r, init="custom", max_iter=500, tol=0, random_state=seed)
        model.set_params(callback=lambda step, state, target=target: state.relative_error <= target)
        ours = seconds(lambda model=model, W0=W0, H0=H0: model.fit(X, W=W0, H=H0), pause=PAUSE)
        reached = squared_error(X, *model.factors_)
        ratios.append(ours / theirs if reached <= target * (1 + 1e-6) else float("inf"))
        notes.append(f"{theirs:.1f} s to {target:.5f} against {ours:.2f} s to {reached:.5f} in {model.n_iter_} passes")
    return Claim(f"MNIST 60,000×784, r={r}: seconds to scikit-learn CD's error", TARGETS[r], ratios, "; ".join(notes))


def main(rounds: int = 3) -> list[Claim]:
    X = mnist()
    quiet()
    return [race(X, r, rounds) for r in (50, 20)]


if __name__ == "__main__":
    report(main())
