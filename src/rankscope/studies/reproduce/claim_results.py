"""From a row for each fit to tables: regret with intervals over seeds, paired comparisons, and what the plateaus were.

The regret of a rule is its clean error over that of the fit's best step. Ratios are averaged by their logarithms. The
seed is the unit: what one seed's fits say is averaged first, and the bootstrap draws seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rankscope.studies.reproduce.denoising import RULES
from rankscope.studies.weight_statistics import Interval, bootstrap_mean

SETTING = ("data", "noise", "level", "solver", "scale", "depth")
PAIRS = (("first", "end"), ("last", "end"), ("best plateau", "end"), ("first", "tuned rank"), ("end", "tuned rank"))
"""(Rule, other): below 1 the rule is better."""
LEAST = 1e-9
"""Errors below it are rounding, and equal."""


def log_ratio(fits: pd.DataFrame, rule: str, other: str) -> pd.Series:
    """ln(error of a rule / error of another), for each fit."""
    ours, theirs = (fits[f"error: {name}"].clip(lower=LEAST) for name in (rule, other))
    return pd.Series(np.log(ours / theirs), index=fits.index)


def ratio(fits: pd.DataFrame, rule: str, other: str) -> Interval:
    """The geometric mean of error(rule)/error(other) with its 95% bootstrap interval over seeds."""
    by_seed = log_ratio(fits, rule, other).groupby(fits["seed"]).mean()
    mean, low, high = (float(np.exp(value)) for value in bootstrap_mean(by_seed))
    return Interval(mean, low, high)


def regrets(fits: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Regret of every rule in each group: a row for each group and rule, with mean, low and high."""
    rows: list[dict[str, Any]] = []
    for key, group in fits.groupby(list(by), sort=False):
        for rule in RULES:
            interval = ratio(group, rule, "oracle")
            rows.append({**dict(zip(by, key, strict=True)), "rule": rule, **interval._asdict(), "fits": len(group)})
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """``regrets`` for a reader: a row for each group, a column for each rule, "mean [low, high]"."""
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        texts = {str(row["rule"]): _text(row["mean"], row["low"], row["high"]) for _, row in group.iterrows()}
        rows.append({**dict(zip(by, key, strict=True)), "fits": int(group["fits"].iloc[0]), **texts})
    return pd.DataFrame(rows)


def comparisons(fits: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Rules against one another on the same fits, and in how many configurations the interval leaves out 1.

    A ratio below 1 says that the first rule is better.
    """
    rows: list[dict[str, Any]] = []
    for key, group in fits.groupby(list(by), sort=False):
        for rule, other in PAIRS:
            each = [ratio(part, rule, other) for _, part in group.groupby(list(SETTING), sort=False)]
            rows.append(
                {
                    **dict(zip(by, key, strict=True)),
                    "rule": rule,
                    "against": other,
                    "ratio": _text(*ratio(group, rule, other)),
                    "configurations": len(each),
                    "better": sum(interval.high < 1 for interval in each),
                    "worse": sum(interval.low > 1 for interval in each),
                }
            )
    return pd.DataFrame(rows)


def plateau_kinds(fits: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """In how many fits there was no plateau, or the first one was the mean image or the end of the fit, or that ended
    locked or with most of their error stuck; and the k of first and last plateaus against the rank that would have been
    best."""
    rows: list[dict[str, Any]] = []
    for key, group in fits.groupby(list(by), sort=False):
        n = len(group)
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "fits": n,
                "none": _share(int((group["plateaus"] == 0).sum()), n),
                "first: rank one": _share(int(group["rank one: first"].sum()), n),
                "first: the end": _share(int((group["lasts: first"] & ~group["rank one: first"]).sum()), n),
                "last: rank one": _share(int(group["rank one: last"].sum()), n),
                "locked": _share(int(group["locked"].sum()), n),
                "stuck": _share(int((group["stuck"] > 0.5).sum()), n),
                "k of the first": _spread(group["k: first"]),
                "k of the last": _spread(group["k: last"]),
                "best rank": _spread(group["rank: best rank"]),
                "tuned rank": _spread(group["rank: tuned rank"]),
            }
        )
    return pd.DataFrame(rows)


def _text(mean: float, low: float, high: float) -> str:
    return f"{_digits(mean)} [{_digits(low)}, {_digits(high)}]"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.2g}"


def _share(count: int, n: int) -> str:
    return f"{100 * count / n:.0f}%"


def _spread(values: pd.Series) -> str:
    """The median and the range of what there is, and how often there is none."""
    known = values.dropna()
    if not len(known):
        return "–"
    text = f"{known.median():g} ({known.min():g}–{known.max():g})" if known.nunique() > 1 else f"{known.iloc[0]:g}"
    return text if len(known) == len(values) else f"{text}; unnamed {_share(len(values) - len(known), len(values))}"
