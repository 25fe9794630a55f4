"""A run of any study: its figures drawn again from what its folder holds, and its table for a terminal."""

from typing import Any

from rankscope.runs import Run


def redraw(folder: Run) -> None:
    """The figures, and for the weight study the tables too; the run may be incomplete."""
    if _is(folder, "weights"):
        from rankscope.studies import weight_matrices  # noqa: PLC0415  (it brings Optuna)

        weight_matrices.redraw(folder)
    elif _is(folder, "reproduce"):
        from rankscope.studies import reproduce  # noqa: PLC0415

        reproduce.redraw(folder)
    else:
        from rankscope.studies import figures  # noqa: PLC0415

        figures.draw_run(folder)


def summary(folder: Run) -> list[dict[str, Any]]:
    """The rows of the comparison table of a finished run, as wide as a terminal."""
    if _is(folder, "weights"):
        from rankscope.studies import weight_matrices  # noqa: PLC0415

        return weight_matrices.summary(folder)
    if _is(folder, "reproduce"):
        from rankscope.studies import reproduce  # noqa: PLC0415

        return reproduce.summary(folder)
    from rankscope.studies import rank_bias  # noqa: PLC0415

    return rank_bias.summary(folder)


def _is(folder: Run, study: str) -> bool:
    return folder.json("config").get("study") == study
