"""Published results again: ``rankscope reproduce NAME``, one file an experiment."""

from rankscope.studies.reproduce.experiment import Check, Descent, Experiment, Findings, Larger, descend
from rankscope.studies.reproduce.runner import EXPERIMENTS, Reproduced, redraw, reproduce, summary

__all__ = [
    "EXPERIMENTS",
    "Check",
    "Descent",
    "Experiment",
    "Findings",
    "Larger",
    "Reproduced",
    "descend",
    "redraw",
    "reproduce",
    "summary",
]
