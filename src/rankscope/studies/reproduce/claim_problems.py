"""The matrices that are to be recovered, and what is added to them.

The synthetic truths are X = U diag(s) Vᵀ with s far apart (30, 10, 3, 1) or close (1.15, 1.1, 1.05, 1). As parts, the
columns of U and of V have disjoint supports and no negative entries, so X is its own NMF; as directions they are
random and orthonormal, and factors have either sign: there the staircase is a theorem (Gidel et al. 2019).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from rankscope.datasets import load_digits, load_mnist
from rankscope.studies.reproduce.denoising import Problem

IMAGES, SIDE = 300, 14
"""Images in a problem, drawn anew for each seed, and the side to which those of MNIST are resized."""
SHAPE, MEAN_SQUARE = (120, 80), 0.1
SEPARATED, CLOSE = (30.0, 10.0, 3.0, 1.0), (1.15, 1.1, 1.05, 1.0)
RANKS: Mapping[int, tuple[int, ...]] = {32: (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), 16: (1, 2, 3, 4, 6, 8, 12, 16)}
"""Of what is tuned, up to the r of the fits."""


class Source(NamedTuple):
    """Where an X comes from, the r that it is fitted with, and whether its factors are kept ≥ 0."""

    draw: Callable[[torch.Generator], Tensor]
    rank: int
    nonnegative: bool = True


def _images(load: Callable[[], Tensor]) -> Callable[[torch.Generator], Tensor]:
    def draw(generator: torch.Generator) -> Tensor:
        X = load()
        return X[torch.randperm(len(X), generator=generator)[:IMAGES]]

    return draw


@cache
def _mnist() -> Tensor:
    return torch.from_numpy(load_mnist(resize=(SIDE, SIDE)).X)


def _parts(values: tuple[float, ...]) -> Callable[[torch.Generator], Tensor]:
    def side(size: int, generator: torch.Generator) -> Tensor:
        """Columns of norm 1, each entry in one of them at random."""
        owner = torch.randint(len(values), (size,), generator=generator)
        owner[: len(values)] = torch.arange(len(values))  # None is empty.
        F = torch.zeros(size, len(values), dtype=torch.float64)
        F[torch.arange(size), owner] = 0.1 + torch.rand(size, generator=generator, dtype=torch.float64)
        return F / torch.linalg.vector_norm(F, dim=0)

    return lambda generator: _scaled(side(SHAPE[0], generator), values, side(SHAPE[1], generator))


def _directions(values: tuple[float, ...]) -> Callable[[torch.Generator], Tensor]:
    def side(size: int, generator: torch.Generator) -> Tensor:
        return torch.linalg.qr(torch.randn(size, len(values), generator=generator, dtype=torch.float64)).Q

    return lambda generator: _scaled(side(SHAPE[0], generator), values, side(SHAPE[1], generator))


def _scaled(U: Tensor, values: tuple[float, ...], V: Tensor) -> Tensor:
    """U diag(s) Vᵀ, made to the mean square of images."""
    X = U * torch.tensor(values, dtype=U.dtype) @ V.mT
    return X * (MEAN_SQUARE / X.square().mean()).sqrt()


SOURCES: Mapping[str, Source] = {
    "digits": Source(_images(lambda: torch.from_numpy(load_digits().X)), 32),
    "mnist": Source(_images(_mnist), 32),
    "separated parts": Source(_parts(SEPARATED), 16),
    "close parts": Source(_parts(CLOSE), 16),
    "separated directions": Source(_directions(SEPARATED), 16, nonnegative=False),
    "close directions": Source(_directions(CLOSE), 16, nonnegative=False),
}


def make(data: str, noise: str, level: float, seed: int) -> Problem:
    """A problem: ‖E‖_F is ``level`` · ‖X‖_F (for Poisson noise in expectation) before anything is clipped.

    Args:
        data: of ``SOURCES``.
        noise: gaussian (then clipped at 0, unless factors have either sign) or poisson, Y ~ Poisson(cX)/c.
        level: 0 for none.
        seed: of X and of E.
    """
    draw, rank, nonnegative = SOURCES[data]
    generator = torch.Generator().manual_seed(1000 + seed)
    X = draw(generator)
    if level == 0:
        return Problem(X, X, rank, nonnegative)
    if noise == "poisson":
        c = float(X.sum() / X.square().sum()) / level**2
        return Problem(X, torch.poisson(c * X, generator=generator) / c, rank, nonnegative)
    E = torch.randn(X.shape, generator=generator, dtype=X.dtype)
    Y = X + E * (level * torch.linalg.matrix_norm(X) / torch.linalg.matrix_norm(E))
    return Problem(X, Y.clamp(min=0) if nonnegative else Y, rank, nonnegative)
