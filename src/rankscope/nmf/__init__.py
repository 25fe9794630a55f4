"""Nonnegative factorization: A ≈ F₁ F₂ … F_L, every F_i ≥ 0."""

from rankscope.nmf.estimators import NMF, DeepNMF
from rankscope.nmf.generate import GenerationScore, generation_score
from rankscope.nmf.health import Health
from rankscope.nmf.levels import levels

__all__ = ["NMF", "DeepNMF", "GenerationScore", "Health", "generation_score", "levels"]
