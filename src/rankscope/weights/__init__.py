"""Weights as structured matrices: layers with few parameters, in and out of a user's own model, many at once."""

from rankscope.weights.budget import Budget, Family, fit_budget
from rankscope.weights.convert import Conversion, compress, merge
from rankscope.weights.dense import Dense
from rankscope.weights.diagnose import CollapsedStartWarning, diagnose
from rankscope.weights.kronecker import Kronecker
from rankscope.weights.linear import StructuredLinear
from rankscope.weights.low_rank import LowRank
from rankscope.weights.members import Data, Member, Split
from rankscope.weights.monarch import Monarch
from rankscope.weights.nonlinear import Nonlinear
from rankscope.weights.phi import MLP, Fourier, Function, Phi, Sine
from rankscope.weights.population import PopulationResult, train_population
from rankscope.weights.structure import Nearest, Structure

__all__ = [
    "MLP",
    "Budget",
    "CollapsedStartWarning",
    "Conversion",
    "Data",
    "Dense",
    "Family",
    "Fourier",
    "Function",
    "Kronecker",
    "LowRank",
    "Member",
    "Monarch",
    "Nearest",
    "Nonlinear",
    "Phi",
    "PopulationResult",
    "Sine",
    "Split",
    "Structure",
    "StructuredLinear",
    "compress",
    "diagnose",
    "fit_budget",
    "merge",
    "train_population",
]
