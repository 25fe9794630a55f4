"""New rows from a fit: draw activations like the fitted ones, and multiply with the dictionary.

Activations are nonnegative, correlated and often exactly zero, and the kinds of row (the ten digits, say) are far
apart, so neither independent marginals nor one Gaussian copula draws anything that looks like the data. A new
activation is instead a random point of the simplex spanned by a fitted row and its nearest neighbours,

    w = Σ_j λ_j W[i_j],   λ ~ Dirichlet(α),   i_0 uniform, i_1 … i_k the nearest rows to i_0 in the image they make:

it is nonnegative, zero where all of them are, correlated as they are, and between them rather than a copy of one.

References: smoothed bootstrap (Efron & Tibshirani 1993, §16.5) on the local simplex, as in SMOTE (Chawla et al. 2002,
doi:10.1613/jair.953). Score: Kynkäänniemi et al. 2019, NeurIPS, arXiv:1904.06991.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

Array = NDArray[np.floating]


def sample_activations(W: Array, gram: Array, n: int, rng: np.random.Generator, *, neighbours: int = 2) -> Array:
    """n new activations (n×r) from the fitted ones W (m×r).

    Args:
        W: the fitted activations.
        gram: R Rᵀ (r×r) of the dictionary, so that distance is measured between the rows that activations make.
        n: how many.
        rng: the source of randomness.
        neighbours: how many rows beside the first take part; capped at m − 1.
    """
    k = min(neighbours, len(W) - 1)
    values, vectors = np.linalg.eigh(gram)
    embedded = W @ (vectors * np.sqrt(values.clip(min=0)))
    chosen = rng.integers(len(W), size=n)
    _, nearest = KDTree(embedded).query(embedded[chosen], k=k + 1)
    nearest = np.asarray(nearest).reshape(n, k + 1)
    weights = rng.dirichlet(np.ones(k + 1), size=n)
    return np.einsum("nk,nkr->nr", weights, W[nearest]).astype(W.dtype, copy=False)


class GenerationScore(NamedTuple):
    """How close generated rows are to real ones, all near 1 for a perfect sampler that does not copy.

    Precision and recall see what a single distance hides: on the digits, columns drawn independently have a smaller
    energy distance to the data than any sampler that makes digits.

    Attributes:
        precision: the fraction of generated rows that lie among the real ones, within a real row's distance to its
            third nearest neighbour: are they plausible?
        recall: the fraction of real rows that lie among the generated ones in the same sense: is everything drawn?
        novelty: the median distance from a generated row to the nearest real one, over that from a real row to the
            nearest other one: near 0 would be copying.
    """

    precision: float
    recall: float
    novelty: float


def generation_score(
    samples: Array, real: Array, rng: np.random.Generator, *, neighbours: int = 3, most: int = 1000
) -> GenerationScore:
    """Score generated rows (k×n) against real ones (m×n), of which at most ``most`` each are drawn.

    For what a sampler adds, take the fit's reconstructions as the real rows: what no product of this rank can show is
    the relative error's business, and pixel noise would hide everything else.
    """
    samples, real = _subset(samples, most, rng), _subset(real, most, rng)
    between, among_real, among_samples = cdist(real, samples), cdist(real, real), cdist(samples, samples)
    np.fill_diagonal(among_real, np.inf)
    typical = float(np.median(among_real.min(1)))
    return GenerationScore(
        precision=float((between <= _reach(among_real, neighbours)[:, None]).any(0).mean()),
        recall=float((between <= _reach(among_samples, neighbours)).any(1).mean()),
        novelty=float(np.median(between.min(0))) / typical if 0 < typical < np.inf else float("nan"),
    )


def _reach(distances: Array, k: int) -> Array:
    """Each row's distance to its k-th nearest other row."""
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)
    return np.partition(distances, min(k, len(distances)) - 1, axis=1)[:, min(k, len(distances)) - 1]


def _subset(rows: Array, most: int, rng: np.random.Generator) -> Array:
    return rows if len(rows) <= most else rows[rng.choice(len(rows), most, replace=False)]
