"""Draw a run of any study again from what its folder holds."""

from rankscope.runs import Run
from rankscope.studies import figures


def redraw(folder: Run) -> None:
    """The figures, and for the weight study the tables too; the run may be incomplete."""
    if folder.json("config").get("study") == "weights":
        from rankscope.studies import weight_matrices  # noqa: PLC0415  (it brings Optuna)

        weight_matrices.redraw(folder)
    else:
        figures.draw_run(folder)
