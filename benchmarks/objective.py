"""The default solver's objective after convergence against scikit-learn's, over ten starts: medians."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import non_negative_factorization

from racing import Claim, quiet, random_start, report, squared_error
from rankscope import NMF


def main(starts: int = 10, r: int = 16) -> list[Claim]:
    quiet()
    X = (load_digits().data / 16).astype(np.float32)
    ours, theirs = [], []
    for seed in range(starts):
        W0, H0 = random_start(X, r, seed)
        W, H, _ = non_negative_factorization(
            X, W0.copy(), H0.copy(), n_components=r, init="custom", solver="cd", tol=1e-6, max_iter=5000
        )
        theirs.append(squared_error(X, W, H))
        model = NMF(r, init="custom", tol=1e-5, max_iter=5000).fit(X, W=W0, H=H0)
        ours.append(squared_error(X, *model.factors_))
    note = f"medians {np.median(ours):.6f} and {np.median(theirs):.6f}"
    ratio = float(np.median(ours) / np.median(theirs))
    return [Claim("converged objective, digits r=16, median of 10 starts / scikit-learn's", 1.0, [ratio], note)]


if __name__ == "__main__":
    report(main())
