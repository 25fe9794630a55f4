"""How well does a masked fit predict entries that it was not shown, against filling them in first?

3,000 MNIST images, 30% of the entries hidden at random. The masked fit sees the other 70%; the reference fills every
hidden entry with the mean of its column (or of all that was observed) and fits that. Both are NMF at the same rank
with their defaults; the error is ‖X − B‖²/‖X‖² over the hidden entries.

    RANKSCOPE_DATA=… python benchmarks/missing_entries.py --ranks 10,20,40,50,64 --seeds 3
"""

import argparse
import time
import warnings

import numpy as np
from numpy.typing import NDArray

from rankscope import NMF
from rankscope.datasets import load_mnist
from rankscope.tables import table

ROWS, HIDDEN = 3000, 0.3
Array = NDArray[np.floating]


def heldout_error(X: Array, filled: Array, observed: NDArray[np.bool_], rank: int, seed: int) -> float:
    """Of NMF on the filled matrix, over what was hidden."""
    model = NMF(rank, random_state=seed).fit(filled.astype(X.dtype))
    residual = (X - model.inverse_transform(model.factors_[0]))[~observed]
    return float((residual**2).sum() / (X[~observed] ** 2).sum())


def compare(X: Array, rank: int, seed: int) -> dict[str, float]:
    """One mask, one rank."""
    observed = np.random.default_rng(seed).random(X.shape) >= HIDDEN
    start = time.perf_counter()
    masked = NMF(rank, random_state=seed).fit(X, mask=observed)
    seconds = time.perf_counter() - start
    columns = np.where(observed, X, 0).sum(0) / observed.sum(0).clip(min=1)
    return {
        "masked": masked.heldout_error_,
        "column means": heldout_error(X, np.where(observed, X, columns), observed, rank, seed),
        "overall mean": heldout_error(X, np.where(observed, X, X[observed].mean()), observed, rank, seed),
        "seconds, masked": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="10,20,40,50,64")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    X = load_mnist()[0][:ROWS]
    rows = []
    for rank in map(int, arguments.ranks.split(",")):
        runs = [compare(X, rank, seed) for seed in range(arguments.seeds)]
        gains = [1 - run["masked"] / run["column means"] for run in runs]
        rows.append(
            {
                "rank": rank,
                **{name: float(np.mean([run[name] for run in runs])) for name in runs[0]},
                "better than column means": f"{100 * min(gains):.1f}–{100 * max(gains):.1f}%",
            }
        )
        print(table(rows[-1:]), flush=True)
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
