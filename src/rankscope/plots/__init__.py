"""Figures: data in, Axes out. Nothing is shown, and no global setting of matplotlib is changed."""

from rankscope.plots.comparison import comparison
from rankscope.plots.curves import staircase, training_curves
from rankscope.plots.factors import factor_heatmap, factor_heatmaps
from rankscope.plots.gallery import plateau_gallery
from rankscope.plots.generation import sample_grid
from rankscope.plots.images import reconstructions, signatures
from rankscope.plots.page import results_page

__all__ = [
    "comparison",
    "factor_heatmap",
    "factor_heatmaps",
    "plateau_gallery",
    "reconstructions",
    "results_page",
    "sample_grid",
    "signatures",
    "staircase",
    "training_curves",
]
