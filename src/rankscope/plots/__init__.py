"""Figures: data in, Axes out. Nothing is shown, and no global setting of matplotlib is changed."""

from rankscope.plots._style import dress
from rankscope.plots.comparison import comparison
from rankscope.plots.curves import staircase, training_curves
from rankscope.plots.evolution import evolution
from rankscope.plots.factors import factor_heatmap, factor_heatmaps
from rankscope.plots.gallery import plateau_gallery
from rankscope.plots.generation import sample_grid
from rankscope.plots.images import reconstructions, signatures
from rankscope.plots.layers import layer_heatmap, layer_staircases, singular_value_trajectories
from rankscope.plots.page import results_page
from rankscope.plots.weights import (
    accuracy_against_parameters,
    convergence,
    learning_rate_response,
    ranks_in_training,
    staircases,
)

__all__ = [
    "accuracy_against_parameters",
    "comparison",
    "convergence",
    "dress",
    "evolution",
    "factor_heatmap",
    "factor_heatmaps",
    "layer_heatmap",
    "layer_staircases",
    "learning_rate_response",
    "plateau_gallery",
    "ranks_in_training",
    "reconstructions",
    "results_page",
    "sample_grid",
    "signatures",
    "singular_value_trajectories",
    "staircase",
    "staircases",
    "training_curves",
]
