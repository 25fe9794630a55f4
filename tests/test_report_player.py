"""The player of a fit: a stop for each snapshot, its pictures, marks where they belong, and few bytes."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rankscope.report import build_report
from rankscope.report.contents import Fit, read_contents
from rankscope.report.player import Player, fit_player
from rankscope.runs import Run, read_snapshots
from rankscope.studies.camera import MOST, Camera
from report_fixture import SEVERAL, Page, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs"))


def filmed(out: Path, *, sizes: tuple[int, ...], shape: list[int] | None, fits: int = 1) -> Run:
    """A run whose snapshots are noise: no picture compresses worse."""
    run = Run.create(out, "nmf", config={"data": "noise", "image_shape": shape})
    g, arrays = np.random.default_rng(0), {}
    for i in range(fits):
        camera = Camera(np.arange(6), max_iter=5000)
        for step in filter(camera.due, range(1, 5001)):
            camera.take(step, [g.random(pair) for pair in zip((6, *sizes), sizes, strict=False)])
        arrays |= camera.snapshots().arrays(f"fit {i}")
    run.save_arrays("snapshots", arrays)
    run.save_arrays("examples", {"X": g.random((6, sizes[-1])), "rows": np.arange(6)})
    for i in range(fits):
        run.append_metrics(f"fit {i}", pd.DataFrame({"step": [1, 5000], "effective_rank": [1.0, 2.0]}))
    return run


def player(run: Run, i: int = 0) -> Player:
    contents = read_contents(run)
    made = fit_player(run, contents, contents.fits[i])
    assert isinstance(made, Player)
    return made


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_one_slider_a_fit_with_a_stop_for_each_snapshot(run: Run) -> None:
    page = Page(build_report(run))
    sliders = page.all("input")
    assert len(sliders) == len(SEVERAL)
    metrics = run.metrics()
    for slider, fit in zip(sliders, SEVERAL, strict=True):
        steps = read_snapshots(run, fit).steps
        assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", str(len(steps) - 1))
        (root,) = [div for div in page.all("div") if div.get("data-chart") == f"staircase-{SEVERAL.index(fit)}"]
        assert json.loads(root["data-steps"]) == steps.tolist()
        for step, said in zip(steps, json.loads(root["data-said"]), strict=True):
            row = metrics[(metrics["fit"] == fit) & (metrics["step"] == step)].iloc[0]
            assert f"rank {row['effective_rank']:.4g} · relative error {row['relative_error']:.4g}" in said
            assert said.startswith(f"step {step:,d} ·")


def test_a_sheet_holds_the_snapshots_pixel_by_pixel(run: Run) -> None:
    taken, made = read_snapshots(run, SEVERAL[0]), player(run)
    (sheet,), H = made.sheets, taken.signatures[2].pixels
    tiles = pixels(sheet.src).reshape(len(taken.steps), 8, 6, 8).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(tiles.reshape(H.shape), H)
    top = run.arrays("examples")["X"].max()
    tiles = pixels(made.rebuilt.src).reshape(len(taken.steps), 8, 6, 8).transpose(0, 2, 1, 3)
    rows = (taken.rebuilt.rows() / top).clip(0, 1)
    np.testing.assert_allclose(tiles.reshape(rows.shape) / 255, rows, atol=0.5 / 255 + 1e-9)
    assert len(made.originals) == 6


def test_colour_stays_colour_and_other_rows_are_curves(tmp_path: Path) -> None:
    run = filmed(tmp_path, sizes=(4, 60), shape=[3, 4, 5])
    H = read_snapshots(run, "fit 0").signatures[2].pixels
    sheet = player(run).sheets[0]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.src.split(",")[1]))).convert("RGB"))
    tiles = shown.reshape(len(H), 4, 4, 5, 3).transpose(0, 2, 4, 1, 3).reshape(H.shape)
    assert np.corrcoef(tiles.ravel(), H.ravel())[0, 1] > 0.95  # 256 colours for all
    long = player(filmed(tmp_path, sizes=(4, 1000), shape=None)).sheets[0]
    assert (long.src, long.width) == ("", 160)
    short = player(filmed(tmp_path, sizes=(4, 60), shape=None)).sheets[0]
    assert base64.b64decode(short.curves) == H.tobytes()


def test_plateaus_and_levels_stand_where_the_fit_met_them(run: Run) -> None:
    steps, made = read_snapshots(run, SEVERAL[0]).steps, player(run)
    facts = run.json("fits")[SEVERAL[0]]
    (band,) = [mark for mark in made.marks if mark.width]
    assert band.text == "k = 1"

    def place(step: float) -> float:
        return 100 * np.interp(np.log1p(step), np.log1p(steps), np.arange(len(steps))) / (len(steps) - 1)

    assert (band.left, band.left + band.width) == pytest.approx(
        [place(facts["plateaus"][0][end]) for end in ("start", "end")]
    )
    curve = run.metrics().query("fit == @SEVERAL[0]")
    levels = {str(level["k"]): level["effective_rank"] for level in facts["levels"]}
    ticks = [mark for mark in made.marks if not mark.width]
    assert ticks
    assert [tick.left for tick in ticks] == sorted(tick.left for tick in ticks)
    for tick in ticks:
        above = curve["effective_rank"] >= levels[tick.text]
        since = curve["step"][~above].max() + 1
        assert tick.left == pytest.approx(place(since))
        assert above[curve["step"] >= since].all()


def test_a_level_only_overshot_is_not_reached() -> None:
    from rankscope.report.player import _reached

    rank = [5.0, 1.0, 3.0, 1.0, 2.0, 4.0, 3.5]
    curve = pd.DataFrame({"step": np.arange(7), "effective_rank": rank, "relative_error": 0.5})
    fit = Fit("any", curve, {}, {})
    assert [_reached(fit, level) for level in (0.5, 2.0, 3.2, 3.8, 9.0, None)] == [None, 4.0, 5.0, None, None, None]


def test_without_a_script_the_first_stop_the_plateaus_and_the_last_stand_still(run: Run) -> None:
    signatures, rebuilt = player(run).stills
    steps = [label.split(",")[0] for label, _ in signatures.lines]
    assert (steps[0], steps[-1]) == ("step 1", "step 400")
    assert len(steps) == 3
    assert next(label for label, _ in rebuilt.lines) == "original"


def added(run: Run) -> int:
    """The bytes that the player adds to the page."""
    whole = build_report(run).stat().st_size
    (run.path / "snapshots.safetensors").unlink()
    return whole - build_report(run).stat().st_size


def test_the_player_is_light_on_digits_mnist_and_colour(tmp_path: Path) -> None:
    digits = filmed(tmp_path, sizes=(24, 64), shape=[8, 8])
    assert len(json.loads(player(digits).steps)) > 0.8 * MOST
    assert added(digits) < 300_000
    assert added(filmed(tmp_path, sizes=(20, 10, 784), shape=[28, 28])) < 3_000_000
    assert added(filmed(tmp_path, sizes=(20, 10, 784), shape=[28, 28], fits=3)) < 3_000_000
    colour = filmed(tmp_path, sizes=(10, 3 * 32 * 32), shape=[3, 32, 32], fits=2)
    assert json.loads(player(colour).steps)[-1] == read_snapshots(colour, "fit 0").steps[-1]  # some stops are left out
    assert added(colour) < 4_000_000
