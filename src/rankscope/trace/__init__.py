"""Watching a matrix while it is learned: its history, and the plateaus in it."""

from rankscope.trace.history import MEASURES, History, Measure, Rows
from rankscope.trace.levels import Plateau, RankLevel, match_level, rank_levels
from rankscope.trace.plateau import PlateauDetector

__all__ = [
    "MEASURES",
    "History",
    "Measure",
    "Plateau",
    "PlateauDetector",
    "RankLevel",
    "Rows",
    "match_level",
    "rank_levels",
]
