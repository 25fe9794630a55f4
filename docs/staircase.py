"""Draw docs/figures/staircase.png: the rank emerging, on a planted truth and on real digits.

Left: three blocks of strengths 10, 4 and 1.5 and a little noise, by gradient descent at a fixed rate. Right: 1,000
digits, by gradient descent with one adaptive step size. Both from a small random start.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rankscope import NMF, plots
from rankscope.datasets import load_digits


def blocks() -> np.ndarray:
    A = 0.002 * np.random.default_rng(0).random((60, 60))
    for k, strength in enumerate((10.0, 4.0, 1.5)):
        A[20 * k : 20 * k + 20, 20 * k : 20 * k + 20] += strength / 20
    return A


def main() -> None:
    small = {"init": "random", "stop": "none", "keep_plateaus": True, "random_state": 0}
    planted = NMF(6, solver="gd", learning_rate=2e-3, init_scale=1e-4, max_iter=100_000, **small).fit(blocks())
    digits = NMF(10, solver="scalar", learning_rate=0.05, init_scale=1e-2, max_iter=6000, **small)
    digits.fit(load_digits()[0][:1000])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, model, title in zip(axes, (planted, digits), ("three planted blocks", "1,000 digits"), strict=True):
        plots.staircase(model.history_, model.plateaus_, ax=ax)
        ax.set_title(title, fontsize=9, pad=50)
    figure.savefig(Path(__file__).parent / "figures" / "staircase.png", dpi=150)


if __name__ == "__main__":
    main()
