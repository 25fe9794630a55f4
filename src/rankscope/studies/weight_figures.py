"""The figures of the weight study, drawn from its outcomes."""

import shutil
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rankscope import plots
from rankscope.runs import Run
from rankscope.runs.atomic import replacing
from rankscope.studies.weight_results import Entry, Outcomes, effective_ranks, histories, results_frame
from rankscope.studies.weight_training import Outcome

MOST = 12
"""Curves in one figure; of more models the brief's and the best are shown."""


def draw_run(folder: Run, outcomes: Outcomes, protocol: str) -> None:
    """Every figure, once for plain and once for permuted inputs; nothing where no model is done."""
    for inputs in dict.fromkeys(entry.inputs for entry in outcomes):
        chosen = {entry: outcome for entry, outcome in outcomes.items() if entry.inputs == inputs}
        _draw(folder, chosen, "" if inputs == "plain" else f"-{inputs}", protocol)


def _draw(folder: Run, outcomes: dict[Entry, Outcome], suffix: str, protocol: str) -> None:
    shown = {entry.model.name: outcome for entry, outcome in _selection(outcomes).items()}
    score = "test accuracy, %" if protocol == "original" else "validation accuracy, %"
    _save(
        folder,
        f"comparison_results{suffix}",
        plots.convergence(
            {name: 100 * outcome.accuracy for name, outcome in shown.items()},
            {name: outcome.train_loss for name, outcome in shown.items()},
            y=score,
        ),
    )
    # Where the brief's readers look for it.
    source, target = (folder.path / part / f"comparison_results{suffix}.png" for part in ("figures", ""))
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    results = results_frame(outcomes, protocol)
    _save(folder, f"accuracy_against_parameters{suffix}", plots.accuracy_against_parameters(results))
    responses = {name: (outcome.rates, 100 * outcome.scores) for name, outcome in shown.items()}
    rates = {name: outcome.learning_rate for name, outcome in shown.items()}
    _save(folder, f"learning_rate_response{suffix}", plots.learning_rate_response(responses, rates, y=score))
    ranks = {name: list(effective_ranks(outcome).values()) for name, outcome in shown.items()}
    _save(folder, f"effective_rank{suffix}", plots.ranks_in_training(ranks))
    selected = _selection(outcomes)
    rows: dict[str, list[Any]] = {}
    for entry, outcome in selected.items():
        rows[entry.model.name] = list(histories({entry: outcome}).values())
    _save(folder, f"staircases{suffix}", plots.staircases(rows))


def _selection(outcomes: Mapping[Entry, Outcome]) -> dict[Entry, Outcome]:
    """At most MOST of them, in their order."""
    if len(outcomes) <= MOST:
        return dict(outcomes)
    best = sorted(outcomes, key=lambda entry: -np.nan_to_num(outcomes[entry].test).mean())
    kept = set(sorted(best, key=lambda entry: entry.model.published is None)[:MOST])
    return {entry: outcome for entry, outcome in outcomes.items() if entry in kept}


def _save(folder: Run, name: str, axes: Any) -> None:
    figure = np.ravel(axes)[0].figure
    folder.save_figure(name, figure)
    plt.close(figure)
