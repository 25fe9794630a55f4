"""What the weight study writes besides figures: results, curves, spectra and verdicts, from the outcomes of its models.

All of it follows from config.json and the outcomes in the run folder, so it can be written again at any time, for a run
that was killed too.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from rankscope.metrics import effective_rank
from rankscope.runs import Run
from rankscope.runs.formats import markdown_table
from rankscope.studies.weight_models import WeightModel
from rankscope.studies.weight_statistics import Comparison, bootstrap_mean, compare, pareto
from rankscope.studies.weight_training import Array, Outcome
from rankscope.trace import History, Rows

PREFIX = "outcome-"
PROTOCOLS = {
    "fair": (
        "Rates were chosen on validation rows; accuracies are means over seeds with the 95% percentile bootstrap "
        "interval; the test rows were met once, by models trained on all training rows at the chosen rate."
    ),
    "original": (
        "The original's own protocol, which is no fair comparison: trials of 20 epochs were scored on the test rows, "
        "so the test accuracy below was tuned on; one seed, one run, no interval."
    ),
}


class Entry(NamedTuple):
    """One row of the table: a model on plain or on permuted inputs."""

    model: WeightModel
    inputs: str

    @property
    def key(self) -> str:
        """Its name in files, studies and figures."""
        return self.model.name if self.inputs == "plain" else f"{self.model.name}-{self.inputs}"


Outcomes = Mapping[Entry, Outcome]


def save_outcome(folder: Run, entry: Entry, outcome: Outcome) -> None:
    """Keep what one entry has found; from then on it is done."""
    folder.save_arrays(PREFIX + entry.key, outcome.arrays())


def load_outcomes(folder: Run, entries: Sequence[Entry]) -> dict[Entry, Outcome]:
    """The entries that are done, in the order given; a damaged file counts as not done."""
    found = {}
    for entry in entries:
        try:
            found[entry] = Outcome.of_arrays(folder.arrays(PREFIX + entry.key))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def write_tables(folder: Run, outcomes: Outcomes, protocol: str) -> pd.DataFrame:
    """Write results.csv, results.md, curves.csv, metrics.csv and verdicts.json, and return the results."""
    results = results_frame(outcomes, protocol)
    sentences = verdicts(outcomes)
    folder.save_table("results", results)
    folder.save_text("results.md", _markdown(outcomes, results, sentences, protocol))
    folder.save_text("curves.csv", curves_frame(outcomes).to_csv(index=False, lineterminator="\n"))
    folder.save_json("verdicts", sentences)
    (folder.path / "metrics.csv").unlink(missing_ok=True)
    for name, history in histories(outcomes).items():
        folder.append_metrics(name, history)
    folder.save_json("fits", facts(outcomes))
    return results


def results_frame(outcomes: Outcomes, protocol: str) -> pd.DataFrame:
    """One row an entry; accuracies in percent."""
    rows = []
    for (model, inputs), outcome in outcomes.items():
        validation, test = (bootstrap_mean(100 * values) for values in (outcome.validation, outcome.test))
        layers = {
            f"effective_rank_{layer}_{when}": float(np.mean(ranks[at]))
            for layer, ranks in effective_ranks(outcome).items()
            for when, at in (("before", 0), ("after", -1))
        }
        rows.append(
            {
                "model": model.name,
                "inputs": inputs,
                "parameters": model.num_parameters,
                "flops": model.flops,
                "merged_flops": model.merged_flops,
                "learning_rate": outcome.learning_rate,
                "edge": outcome.edge,
                **{f"validation_{name}": value for name, value in zip(_NAMES, validation, strict=True)},
                **{f"test_{name}": value for name, value in zip(_NAMES, test, strict=True)},
                "published": model.published if inputs == "plain" else None,
                **layers,
                "seeds": len(outcome.test),
                "diverged": int(np.isnan(outcome.test).sum()),
                "seconds": outcome.seconds,
                "protocol": protocol,
                "structure": model.label,
            }
        )
    frame = pd.DataFrame(rows)
    if len(frame):
        frame.insert(list(frame.columns).index("published"), "pareto", _fronts(frame))
    return frame


def curves_frame(outcomes: Outcomes) -> pd.DataFrame:
    """One row an entry, seed and epoch: training loss, accuracy in percent, effective rank of each layer."""
    parts = []
    for (model, inputs), outcome in outcomes.items():
        epochs, seeds = outcome.accuracy.shape
        ranks = effective_ranks(outcome)
        for seed in range(seeds):
            columns: dict[str, Any] = {
                "model": model.name,
                "inputs": inputs,
                "seed": seed,
                "epoch": np.arange(1, epochs + 1),
                "train_loss": outcome.train_loss[:, seed],
                "accuracy": 100 * outcome.accuracy[:, seed],
            }
            parts.append(pd.DataFrame(columns | {f"effective_rank_{k}": r[1:, seed] for k, r in ranks.items()}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def trials_frame(outcomes: Outcomes) -> pd.DataFrame:
    """One row a trial: the rate and its score in percent."""
    parts = [
        pd.DataFrame({"model": entry.key, "learning_rate": outcome.rates, "accuracy": 100 * outcome.scores})
        for entry, outcome in outcomes.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def effective_ranks(outcome: Outcome) -> dict[str, Array]:
    """The effective rank of each layer, (T + 1 × N)."""
    return {
        layer: effective_rank.of_spectrum(torch.from_numpy(np.nan_to_num(sigma))).numpy()
        for layer, sigma in outcome.sigma.items()
    }


def histories(outcomes: Outcomes) -> dict[str, pd.DataFrame]:
    """The history of each layer of each first seed: the relative error is its distance to where it ended."""
    made = {}
    for entry, outcome in outcomes.items():
        for layer, sigma in outcome.sigma.items():
            history = History()
            distance = torch.from_numpy(outcome.distance[layer])
            history.extend(
                Rows(
                    step=list(range(len(sigma))),
                    seconds=list(outcome.clock),
                    relative_error=(distance / max(outcome.norm[layer], 1e-300)) ** 2,
                    absolute_error=distance,
                    sigma=torch.from_numpy(np.nan_to_num(sigma[:, 0])),
                )
            )
            made[f"{entry.key}-{layer}"] = history.to_frame()
    return made


def facts(outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    """What fits.json says of each layer."""
    return {
        name: {
            "n_iter": int(history["step"].iloc[-1]),
            "seconds": float(history["seconds"].iloc[-1]),
            "effective_rank": float(history["effective_rank"].iloc[-1]),
            "plateaus": [],
        }
        for name, history in histories(outcomes).items()
    }


def comparisons(outcomes: Outcomes) -> list[Comparison]:
    """Every pair of entries with the same inputs, by their test accuracy on shared seeds."""
    pairs = combinations(outcomes.items(), 2)
    return [
        compare(a.key, 100 * first.test, b.key, 100 * second.test)
        for (a, first), (b, second) in pairs
        if a.inputs == b.inputs and len(first.test) == len(second.test)
    ]


def verdicts(outcomes: Outcomes) -> list[str]:
    """A sentence for each pair."""
    return [comparison.sentence() for comparison in comparisons(outcomes)]


_NAMES = ("accuracy", "low", "high")


def _fronts(frame: pd.DataFrame) -> list[bool]:
    """Which rows nothing with the same inputs beats in parameters and test accuracy."""
    front = pd.Series(False, index=frame.index)
    for _, group in frame.groupby("inputs"):
        front[group.index] = pareto(group["parameters"].tolist(), group["test_accuracy"].tolist())
    return front.tolist()


def _markdown(outcomes: Outcomes, results: pd.DataFrame, sentences: Sequence[str], protocol: str) -> str:
    several = len(set(results["inputs"])) > 1 if len(results) else False
    rows = []
    for (_, row), outcome in zip(results.iterrows(), outcomes.values(), strict=True):
        ranks = effective_ranks(outcome)
        rows.append(
            {
                "model": row["model"],
                **({"inputs": row["inputs"]} if several else {}),
                "parameters": row["parameters"],
                "FLOPs": row["flops"],
                "best learning rate": f"{row['learning_rate']:.3g}" + (f" ({row['edge']} edge)" if row["edge"] else ""),
                "validation %": percent(row, "validation"),
                "test %": percent(row, "test"),
                "in the brief": "" if row["published"] is None or np.isnan(row["published"]) else f"{row['published']}",
                "effective rank, before → after": "; ".join(
                    f"{np.mean(rank[0]):.2f} → {np.mean(rank[-1]):.2f}" for rank in ranks.values()
                ),
                "seconds": round(row["seconds"], 1),
            }
        )
    edges = results.loc[results["edge"] != "", "model"].tolist() if len(results) else []
    lines = [
        f"**Protocol: {protocol}.** {PROTOCOLS[protocol]}",
        "",
        markdown_table(pd.DataFrame(rows)) if rows else "No model is done yet.\n",
        "Effective ranks are means over seeds of the tested models' layers; FLOPs are one forward pass of one input.",
    ]
    if edges:
        lines += ["", f"At the edge of the range of rates, so perhaps not tuned to the end: {', '.join(edges)}."]
    if sentences:
        lines += ["", "## Which differences are resolved", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def percent(row: Any, what: str) -> str:
    """The mean of "validation" or "test" and its interval in words, from one row of results."""
    mean, low, high = (row[f"{what}_{name}"] for name in _NAMES)
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.2f}" if not np.isfinite(low) else f"{mean:.2f} ({low:.2f} to {high:.2f})"
