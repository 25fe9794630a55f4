"""Naming the plateaus of a fit: which best rank-k approximation of A each sits at, and whether it is one at all.

A plateau of low-rank bias is transient: the gradient has not vanished and more will be learned. One where the
gradient has vanished is the end of the fit, and one whose entries are locked at zero is an artefact.
"""

from dataclasses import replace

import pandas as pd
import torch

from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.health import Health
from rankscope.trace.plateau import Plateau, PlateauDetector, RankLevel, match_level, rank_levels

CONVERGED = 1e-3
"""A KKT residual below this leaves nothing to learn."""


def levels(blocks: RowBlocks, rank: int) -> list[RankLevel]:
    """(effective rank, relative error) of the best rank-k approximations of A for k = 1 … rank."""
    generator = torch.Generator().manual_seed(0)  # What it starts does not show in the digits that are used.
    _, sigma, _ = blocks.leading_triplets(min(rank, *blocks.shape), generator)
    return rank_levels(sigma.double().cpu().numpy(), blocks.squared_norm)


def label(plateaus: list[Plateau], blocks: RowBlocks, rank: int) -> list[Plateau]:
    """The plateaus with k set where one matches the best rank-k approximation of A.

    Where entries of A are missing, that has no closed form, and k stays None.
    """
    if not plateaus or blocks.observed is not None:
        return plateaus
    known = levels(blocks, rank)
    return [match_level(plateau, known) for plateau in plateaus]


def classify(plateau: Plateau, health: Health) -> Plateau:
    """The plateau with its kind, by the health of the factors at it: transient, converged or locked."""
    kind = "locked" if health.locked else "converged" if health.kkt_residual < CONVERGED else "transient"
    return replace(plateau, kind=kind)


def detect(history: pd.DataFrame) -> list[Plateau]:
    """The plateaus of a finished history."""
    detector = PlateauDetector()
    for row in zip(
        history["step"].tolist(), history["relative_error"].tolist(), history["effective_rank"].tolist(), strict=True
    ):
        detector.update(*row)
    detector.finish()
    return list(detector.plateaus)
