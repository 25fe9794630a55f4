"""Read whatever a run folder holds: a killed run has some of its files, and a diverged one has NaN in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from rankscope.runs import Run

CURVE = ("step", "seconds", "relative_error", "effective_rank", "nuclear_over_operator", "sigma_1", "sigma_2")
_KEY = re.compile(r"(?P<fit>[^/]+)/(plateau(?P<plateau>\d+)/)?F(?P<layer>\d+)")
FINAL = 0  # the stage after the last step; stage p > 0 is the p-th plateau


@dataclass(frozen=True)
class Fit:
    """One fit of a run: its curve, what fits.json says of it, and the keys of its factors at each stage."""

    name: str
    curve: pd.DataFrame
    facts: Mapping[str, Any]
    stages: Mapping[int, list[str]]

    @property
    def plateaus(self) -> list[Mapping[str, Any]]:
        """The plateaus found, in order."""
        return mappings(self.facts.get("plateaus"))

    @property
    def levels(self) -> list[Mapping[str, Any]]:
        """Effective rank and error of the best rank-k approximations of the data."""
        return mappings(self.facts.get("levels"))


@dataclass(frozen=True)
class Contents:
    """Everything the page shows, and one line for each thing that is missing or damaged."""

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    status: Mapping[str, Any]
    fits: list[Fit]
    results: pd.DataFrame | None
    examples: Mapping[str, np.ndarray]
    missing: list[str] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    @property
    def of_weights(self) -> bool:
        """Whether the run trained weights: it has no data matrix, no factors and no examples of rows."""
        return self.config.get("study") == "weights"

    @property
    def reproduces(self) -> bool:
        """Whether the run did a published experiment: its factors may have any sign, and its rows are no examples."""
        return self.config.get("study") == "reproduce"


def read_contents(run: Run) -> Contents:
    """Read a run; what cannot be read becomes a line in `missing`."""
    missing: list[str] = []
    config, environment, facts = (_mapping(run, name, missing) for name in ("config", "environment", "fits"))
    metrics = _metrics(run, missing)
    of_weights = config.get("study") == "weights"
    without_pictures = of_weights or config.get("study") == "reproduce"
    keys = {} if without_pictures else _factor_keys(run, missing)
    names = [*metrics["fit"].unique(), *facts, *keys]
    fits = [
        Fit(
            name=name,
            curve=_curve(metrics[metrics["fit"] == name]),
            facts=next(iter(mappings([facts.get(name)])), {}),
            stages=keys.get(name, {}),
        )
        for name in dict.fromkeys(names)
    ]
    examples = {} if without_pictures else _examples(run, missing)
    said = _verdicts(run, missing) if of_weights else []
    return Contents(config, environment, run.status, fits, _results(run, missing), examples, missing, said)


def factor_chain(run: Run, fit: Fit, stage: int) -> list[np.ndarray]:
    """F1 … FL of a fit at one stage, in float64; ValueError when they are missing or do not multiply."""
    keys = fit.stages.get(stage, [])
    if len(keys) < 2:
        raise ValueError("The factors of this fit were not saved.")
    stored = run.arrays("factors", only=keys)
    chain = [np.asarray(stored[key], dtype=np.float64) for key in keys]
    fits = all(factor.ndim == 2 for factor in chain)
    if not fits or any(left.shape[1] != right.shape[0] for left, right in pairwise(chain)):
        shapes = " · ".join("×".join(map(str, factor.shape)) for factor in chain)
        raise ValueError(f"The saved factors do not multiply: {shapes}.")
    return chain


def mappings(value: object) -> list[Mapping[str, Any]]:
    """The mappings in a list, or none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _mapping(run: Run, name: str, missing: list[str]) -> Mapping[str, Any]:
    try:
        value = run.json(name)
    except FileNotFoundError:
        missing.append(f"{name}.json is missing.")
    except (OSError, ValueError) as error:
        missing.append(f"{name}.json cannot be read ({error}).")
    else:
        if isinstance(value, Mapping):
            return value
        missing.append(f"{name}.json does not hold an object.")
    return {}


def _metrics(run: Run, missing: list[str]) -> pd.DataFrame:
    try:
        metrics = run.metrics()
    except (OSError, ValueError) as error:
        missing.append(f"metrics.csv cannot be read ({error}).")
        return pd.DataFrame(columns=pd.Index(["fit", *CURVE]))
    if metrics.empty or not {"fit", "step"} <= set(metrics):
        missing.append("metrics.csv is missing or empty: no step was logged.")
        return pd.DataFrame(columns=pd.Index(["fit", *CURVE]))
    return metrics


def _curve(rows: pd.DataFrame) -> pd.DataFrame:
    absent = pd.Series(np.nan, index=rows.index)
    numbers = {name: pd.to_numeric(rows.get(name, absent), errors="coerce").astype(float) for name in CURVE}
    curve = pd.DataFrame(numbers).dropna(subset="step")
    # A resumed fit logs some steps twice: the later row is what happened.
    return curve.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True)


def _factor_keys(run: Run, missing: list[str]) -> dict[str, dict[int, list[str]]]:
    try:
        keys = run.array_names("factors")
    except FileNotFoundError:
        missing.append("factors.safetensors is missing: no signatures and no reconstructions.")
        keys = []
    except (OSError, ValueError) as error:
        missing.append(f"No signatures and no reconstructions: {error}.")
        keys = []
    found = [(match, key) for key in keys if (match := _KEY.fullmatch(key))]
    stages: dict[str, dict[int, list[str]]] = {}
    for match, key in sorted(found, key=lambda pair: int(pair[0]["layer"])):
        stages.setdefault(match["fit"], {}).setdefault(int(match["plateau"] or FINAL), []).append(key)
    return stages


def _examples(run: Run, missing: list[str]) -> Mapping[str, np.ndarray]:
    try:
        return run.arrays("examples")
    except FileNotFoundError:
        missing.append("examples.safetensors is missing: no reconstructions and no samples.")
    except (OSError, ValueError) as error:
        missing.append(f"No reconstructions and no samples: {error}.")
    return {}


def _verdicts(run: Run, missing: list[str]) -> list[str]:
    try:
        said = run.json("verdicts")
    except (OSError, ValueError):
        said = None
    if not isinstance(said, list):
        missing.append("verdicts.json is missing or damaged: no comparison of pairs.")
        return []
    return [str(line) for line in said]


def _results(run: Run, missing: list[str]) -> pd.DataFrame | None:
    try:
        return pd.read_csv(run.path / "results.csv", dtype=str, keep_default_na=False)
    except FileNotFoundError:
        missing.append("results.csv is missing.")
    except (OSError, ValueError) as error:
        missing.append(f"results.csv cannot be read ({error}).")
    return None
