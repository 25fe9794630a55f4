"""The table of the weight study as its page shows it: the columns a reader compares, means with their intervals."""

import pandas as pd

from rankscope.report.tables import Table, number, results


def weight_results(frame: pd.DataFrame | None) -> Table | None:
    """results.csv of a weight study, read as text; a file of other columns is shown as it is."""
    needed = {"model", "parameters", "flops", "learning_rate", "edge", *_spread("validation"), *_spread("test")}
    if frame is None or frame.empty or not needed <= set(frame):
        return results(frame)
    names = [str(name) for name in frame]
    ranks = sorted(name.removesuffix("_after") for name in names if name.startswith("effective_rank_layer"))
    ranks = [rank for rank in ranks if {f"{rank}_before", f"{rank}_after"} <= set(names)]
    header = ["model", "parameters", "FLOPs", "best learning rate", "validation %", "test %", "in the brief"]
    rows = []
    for row in frame.to_dict("records"):
        cells = [
            row["model"] + ("" if row.get("inputs", "plain") == "plain" else f", {row['inputs']} inputs"),
            _cell(row["parameters"]),
            _cell(row["flops"]),
            _cell(row["learning_rate"]) + (f" ({row['edge']} edge)" if row["edge"] else ""),
            _interval(row, "validation"),
            _interval(row, "test"),
            _cell(row.get("published", "")),
            *(f"{_cell(row[f'{rank}_before'])} → {_cell(row[f'{rank}_after'])}" for rank in ranks),
            _cell(row.get("seconds", "")),
        ]
        rows.append(cells)
    titles = [f"effective rank, layer {rank.removeprefix('effective_rank_layer')}" for rank in ranks]
    numeric = [False, True, True, True, True, True, True, *(True for _ in ranks), True]
    return Table([*header, *titles, "seconds"], rows, numeric)


def _spread(what: str) -> list[str]:
    return [f"{what}_{name}" for name in ("accuracy", "low", "high")]


def _interval(row: dict, what: str) -> str:
    mean, low, high = (pd.to_numeric(row[name], errors="coerce") for name in _spread(what))
    if pd.isna(mean):
        return "–"
    return f"{mean:.2f}" if pd.isna(low) else f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _cell(value: str) -> str:
    parsed = pd.to_numeric(value, errors="coerce")
    return number(float(parsed)) if value and not pd.isna(parsed) else value or "–"
