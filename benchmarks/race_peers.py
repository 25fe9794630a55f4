"""6,000×784, r=20: who reaches the lowest error of the other libraries first, and the whole race as a figure.

Each peer runs from one start for at most BUDGET seconds; peers that are not installed are skipped by name.
nmf-torch takes no start and draws its own.
"""

import argparse
import contextlib
import importlib.util
import io
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import non_negative_factorization

from racing import Claim, mnist, quiet, random_start, report, squared_error
from rankscope import NMF

RANK = 20
WORTH_IT = 1.1
"""Times as many iterations, for which a run begins anew."""
Curve = list[tuple[float, float]]
"""(seconds, relative error) as a run goes on."""


def restarted(budget: float, X, W, H, run) -> Curve:
    """A run in slices of growing length, each from where the last one ended; only the slices' seconds count."""
    curve, spent, iterations = [(0.0, squared_error(X, W, H))], 0.0, 2
    while spent < budget:
        begun = time.perf_counter()
        W, H = run(W, H, iterations)
        spent += time.perf_counter() - begun
        curve.append((spent, squared_error(X, W, H)))
        iterations = min(2 * iterations, 64)
    return curve


def scikit_learn(X, W, H, budget: float, solver: str) -> Curve:
    arguments = dict(n_components=RANK, init="custom", solver=solver, tol=0)
    return restarted(
        budget, X, W, H, lambda W, H, n: non_negative_factorization(X, W.copy(), H.copy(), max_iter=n, **arguments)[:2]
    )


def nn_fac(X, W, H, budget: float) -> Curve:
    from nn_fac.nmf import nmf  # noqa: PLC0415

    def run(W, H, n):
        return nmf(X, RANK, init="custom", U_0=W, V_0=H, n_iter_max=n, tol=0, update_rule="hals")[:2]

    return restarted(budget, X, W, H, run)


def torchnmf(X, W, H, budget: float) -> Curve:
    from torchnmf.nmf import NMF as Peer  # noqa: PLC0415

    def run(W, H, n):
        peer = Peer(W=torch.from_numpy(np.ascontiguousarray(H.T)), H=torch.from_numpy(W))
        peer.fit(torch.from_numpy(X), beta=2, tol=0, max_iter=n)
        return peer.H.detach().numpy(), np.ascontiguousarray(peer.W.detach().numpy().T)

    return restarted(budget, X, W, H, run)


def nmf_torch(X, W, H, budget: float) -> Curve:
    from nmf import run_nmf  # noqa: PLC0415

    curve, iterations, more = [], 10, 2.0
    while more > WORTH_IT:  # It has no start to go on from: each run begins anew, the last one with all of the budget.
        begun = time.perf_counter()
        W, H, _ = run_nmf(X, RANK, algo="halsvar", mode="batch", batch_max_iter=iterations, tol=0, random_state=0)
        took, error = time.perf_counter() - begun, squared_error(X, np.asarray(W), np.asarray(H))
        if curve and error == curve[-1][1]:
            break  # It stopped by itself, and would again.
        curve.append((took, error))
        more = min(2.0, budget / took)
        iterations = round(more * iterations)
    return curve


PEERS = {"nn_fac": nn_fac, "torchnmf": torchnmf, "nmf": nmf_torch}
NAMES = {"nn_fac": "nn-fac hals", "torchnmf": "torchnmf", "nmf": "nmf-torch hals"}


def rankscope(X, W, H, budget: float, target: float) -> Curve:
    begun, curve = time.perf_counter(), []

    def watch(step: int, state) -> bool:
        curve.append((time.perf_counter() - begun, state.relative_error))
        return curve[-1][0] > budget or curve[-1][1] <= target

    NMF(RANK, init="custom", max_iter=100_000, tol=1e-7, random_state=0, callback=watch).fit(X, W=W, H=H)
    return curve


def first_below(curve: Curve, target: float) -> float:
    return next((seconds for seconds, error in curve if error <= target * (1 + 1e-6)), float("inf"))


def race(X, seed: int, budget: float, *, everybody: bool) -> tuple[dict[str, Curve], float]:
    """Every curve of one start, and our seconds over those of the first peer at the peers' lowest error.

    The claim is about PEERS; scikit-learn's solvers run with half of the budget where everybody is to be seen.
    """
    W0, H0 = random_start(X, RANK, seed)
    curves = {}
    for module, run in PEERS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{NAMES[module]}: not installed, skipped")
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            curves[NAMES[module]] = run(X, W0, H0, budget)
    lowest = min((min(error for _, error in curve) for curve in curves.values()), default=0.0)
    if everybody:
        curves["scikit-learn cd"] = scikit_learn(X, W0, H0, budget / 2, "cd")
        curves["scikit-learn mu"] = scikit_learn(X, W0, H0, budget / 2, "mu")
    curves["rankscope hals"] = rankscope(X, W0, H0, budget, lowest if lowest else 0.0)
    peers = [curve for name, curve in curves.items() if name in NAMES.values()]
    fastest = min((first_below(curve, lowest) for curve in peers), default=float("nan"))
    return curves, first_below(curves["rankscope hals"], lowest) / fastest


def figure(curves: dict[str, Curve], path: Path) -> None:
    _, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    best = min(error for curve in curves.values() for _, error in curve)
    for name, curve in curves.items():
        seconds, errors = np.array([point for point in curve if point[0] > 0]).T
        strong = name.startswith("rankscope")
        axes.plot(
            seconds, errors / best - 1 + 1e-6, label=name, linewidth=2.4 if strong else 1.2, zorder=3 if strong else 2
        )
    axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="relative error above the lowest seen")
    axes.set_title(f"MNIST 6,000×784, r = {RANK}, one start", loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plt.savefig(path, dpi=160)
    plt.close()


def main(rounds: int = 3, budget: float = 20.0, path: Path | None = None) -> list[Claim]:
    quiet()
    X = mnist(6_000)
    NMF(RANK, init="random", max_iter=20).fit(X)  # What is compiled is read from its cache once a process.
    measured, names = [], []
    for seed in range(rounds):
        drawn = seed == 0 and path is not None
        curves, ratio = race(X, seed, budget, everybody=drawn)
        measured.append(ratio)
        names += [name for name in curves if name not in names]
        if drawn:
            figure(curves, path)
    note = f"{budget:g} s for each library; {', '.join(names)}"
    return [Claim("6,000×784, r=20: seconds to the peers' lowest error / the first of them", 1 / 3, measured, note)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--figure", type=Path, default=Path("race.png"))
    arguments = parser.parse_args()
    report(main(arguments.rounds, arguments.budget, arguments.figure))
