"""Watching a matrix while it is learned: its history, and the plateaus in it; the same for the weights of any model."""

from rankscope.trace.history import MEASURES, History, Measure, Rows
from rankscope.trace.layer_history import SPECTRAL_MEASURES, LayerHistory
from rankscope.trace.levels import Plateau, RankLevel, match_level, rank_levels
from rankscope.trace.plateau import PlateauDetector
from rankscope.trace.schedule import log_spaced
from rankscope.trace.targets import HasSingularValues
from rankscope.trace.tracker import RankTracker

__all__ = [
    "MEASURES",
    "SPECTRAL_MEASURES",
    "HasSingularValues",
    "History",
    "LayerHistory",
    "Measure",
    "Plateau",
    "PlateauDetector",
    "RankLevel",
    "RankTracker",
    "Rows",
    "log_spaced",
    "match_level",
    "rank_levels",
]
