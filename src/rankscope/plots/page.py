"""One page for one fit: its factors, its training, its first signatures and what it makes of single rows."""

from collections.abc import Iterable, Sequence
from functools import reduce

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rankscope.plots._style import FONT, INK, PAGE, Matrix, array
from rankscope.plots.curves import training_curves
from rankscope.plots.factors import factor_heatmaps, width_ratios
from rankscope.plots.images import reconstructions, signatures
from rankscope.trace.levels import Plateau


def results_page(
    factors: Sequence[Matrix],
    history: pd.DataFrame,
    image_shape: Sequence[int],
    *,
    X: Matrix | None = None,
    plateaus: Iterable[Plateau] = (),
    n_show: int = 10,
) -> Figure:
    """Factor heatmaps, training curves, the first `n_show` signatures and, with X (m×n), two rows reconstructed.

    Raises:
        ValueError: there are no factors, X does not have their product's shape, or the image shape does not fit.
    """
    H = array(factors[-1], name="H")
    n_show = min(n_show, len(H))
    indices = [] if X is None else list(range(min(2, len(array(X, name="X")))))
    heights = [2.4, 4.0, 1.0, *([1.35 * len(indices) + 0.2] if indices else [])]
    figure = plt.figure(figsize=(PAGE, sum(heights)), layout="constrained")
    parts = np.asarray(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)).ravel()
    factor_heatmaps(factors, axes=parts[0].subplots(1, len(factors), squeeze=False, width_ratios=width_ratios(factors)))
    training_curves(history, plateaus, axes=parts[1].subplots(2, 2))
    parts[2].suptitle("signatures", fontsize=FONT, color=INK)
    signatures(H, image_shape, n_show=n_show, axes=parts[2].subplots(1, n_show, squeeze=False))
    if X is not None and indices:
        X_hat = reduce(np.matmul, [array(F, name="factor") for F in factors])
        reconstructions(X, X_hat, image_shape, indices=indices, axes=parts[3].subplots(len(indices), 3, squeeze=False))
    return figure
