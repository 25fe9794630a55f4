"""The report draws whatever a kill has left, says what is missing, and turns nothing in a run into markup."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rankscope.report import build_report
from rankscope.report.page import script_json
from rankscope.runs import Run
from report_fixture import SEVERAL, Page, make_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs"), finish=False)


def copied(run: Run, folder: Path) -> Run:
    return Run(Path(shutil.copytree(run.path, folder / run.name)))


def test_nothing_from_the_run_becomes_markup(whole: Run, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    run = copied(whole, tmp_path)
    run.save_json("config", {**run.json("config"), "data": evil, "note": {evil: [evil]}})
    facts = run.json("fits")
    facts[SEVERAL[0]]["health"] = {"ok": False, "messages": [evil], evil: evil}
    facts[SEVERAL[0]]["plateaus"][0] |= {"kind": evil, "k": evil}
    facts[SEVERAL[0]]["levels"][0]["k"] = evil
    facts[SEVERAL[0]]["generation"] = {evil: evil}
    run.save_json("fits", {**facts, evil: {"n_iter": evil}})
    run.append_metrics("b", pd.DataFrame(run.metrics().drop(columns="fit").head(3)))
    path = run.path / "metrics.csv"
    path.write_text(path.read_text().replace("b,", f"{evil},"))
    run.save_table("results", pd.DataFrame({"fit": [evil], evil: [1.0]}))
    page = Page(build_report(run))
    assert len(page.all("script")) == 4
    assert not any("onerror" in attributes or attributes.get("src") == "x" for attributes in page.all("img"))
    assert evil in page.text
    # plotly reads a little HTML in the texts it draws.
    assert "<img" not in json.dumps(page.charts)


def test_data_cannot_end_the_script_that_holds_it() -> None:
    held = {"</script><!--": ["<b>", "&amp;", "é", 1.5]}
    text = str(script_json(held))
    assert not set("<>&") & set(text)
    assert json.loads(text) == held


def edit(name: str, change: Callable[[str], str]) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        path = run.path / name
        path.write_text(change(path.read_text()))

    return apply


def tear(name: str) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        path = run.path / name
        path.write_bytes(path.read_bytes()[:-100])

    return apply


def remove(*names: str) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        for name in names:
            (run.path / name).unlink()

    return apply


def not_a_number(run: Run) -> None:
    metrics = run.metrics()
    (run.path / "metrics.csv").unlink()
    metrics.loc[5:, metrics.columns[2:]] = math.nan
    for fit, rows in metrics.groupby("fit", sort=False):
        run.append_metrics(str(fit), rows)
    run.save_arrays("factors", {key: np.full_like(array, math.nan) for key, array in run.arrays("factors").items()})
    run.save_json("fits", {fit: {**facts, "relative_error": math.nan} for fit, facts in run.json("fits").items()})


def other_shapes(run: Run) -> None:
    run.save_arrays("factors", {f"{fit}/F{i}": np.ones((3, 2)) for fit in SEVERAL for i in (1, 2)})


def other_rows(run: Run) -> None:
    run.save_arrays("examples", {**run.arrays("examples"), "rows": np.arange(6) + 999})


def other_snapshots(run: Run) -> None:
    arrays = run.arrays("snapshots")
    run.save_arrays("snapshots", {**arrays, f"{SEVERAL[0]}/steps": np.arange(3)})


def snapshots_of_other_rows(run: Run) -> None:
    run.save_arrays("examples", {"X": np.ones((2, 5)), "rows": np.arange(2)})


def snapshots_of_one_fit(run: Run) -> None:
    arrays = run.arrays("snapshots")
    run.save_arrays("snapshots", {name: array for name, array in arrays.items() if name.startswith(SEVERAL[0])})


def without_clock(run: Run) -> None:
    run.metrics().drop(columns="seconds").to_csv(run.path / "metrics.csv", index=False)


def without_plateaus(run: Run) -> None:
    run.save_json("fits", {fit: {**facts, "plateaus": [], "levels": []} for fit, facts in run.json("fits").items()})


ALL = (
    "metrics.csv",
    "fits.json",
    "results.csv",
    "factors.safetensors",
    "examples.safetensors",
    "environment.json",
    "snapshots.safetensors",
)
LEFT_BY_A_KILL = {
    "nothing but the configuration": (remove(*ALL), "No fit has left anything to show."),
    "no metrics": (remove("metrics.csv"), "No step of this fit was logged."),
    "empty metrics": (edit("metrics.csv", lambda _: ""), "No step of this fit was logged."),
    "only a header": (edit("metrics.csv", lambda text: text.split("\n")[0] + "\n"), "No step of this fit was logged."),
    "a torn line": (edit("metrics.csv", lambda text: text[:-9]), "The fits compared"),
    "one step": (edit("metrics.csv", lambda text: "\n".join(text.split("\n")[:2]) + "\n"), "Each fit"),
    "strange metrics": (edit("metrics.csv", lambda _: "fit,step,relative_error\na,x,y\n"), "No step of this fit"),
    "ragged metrics": (edit("metrics.csv", lambda text: text + "a,1,2,3,4,5,6,7,8,9,10,11\n"), "metrics.csv cannot be"),
    "no clock": (without_clock, "Error over steps"),
    "no facts": (remove("fits.json"), "No plateau was found."),
    "torn facts": (edit("fits.json", lambda text: text[:50]), "fits.json cannot be read"),
    "facts of another sort": (
        edit("fits.json", lambda _: '{"hals nndsvda": [1], "mu random": {"plateaus": 3}}'),
        "fit",
    ),
    "no factors": (remove("factors.safetensors"), "The factors of this fit were not saved."),
    "torn factors": (tear("factors.safetensors"), "No signatures and no reconstructions"),
    "factors that do not multiply": (other_shapes, "The saved factors do not multiply: 3×2 · 3×2."),
    "no examples": (remove("examples.safetensors"), "There are no example rows"),
    "examples of another matrix": (other_rows, "do not belong to this fit of a 200×64 matrix"),
    "no snapshots": (remove("snapshots.safetensors"), "nothing to play: snapshots.safetensors is missing."),
    "torn snapshots": (tear("snapshots.safetensors"), "nothing to play: snapshots.safetensors must be a whole"),
    "snapshots that do not fit": (other_snapshots, f"The snapshots of {SEVERAL[0]} do not belong together: 3 steps"),
    "snapshots of one fit": (snapshots_of_one_fit, "no snapshot of this fit was kept"),
    "snapshots without their rows": (snapshots_of_other_rows, "Logged step"),
    "no results": (remove("results.csv"), "There is no table of results"),
    "empty results": (edit("results.csv", lambda _: ""), "results.csv cannot be read"),
    "NaN": (not_a_number, "the fit has diverged"),
    "no plateau": (without_plateaus, "No plateau was found."),
}


@pytest.mark.parametrize("case", LEFT_BY_A_KILL)
def test_what_is_left_is_drawn_and_what_is_missing_is_said(whole: Run, tmp_path: Path, case: str) -> None:
    damage, words = LEFT_BY_A_KILL[case]
    run = copied(whole, tmp_path)
    damage(run)
    page = Page(build_report(run))
    assert words in page.text
    assert "This run is incomplete." in page.text
    assert json.dumps(page.charts, allow_nan=False)
    drawn = {attributes["id"] for attributes in page.all("div") if attributes.get("class") == "chart"}
    assert drawn == set(page.charts)
