"""The report shows what the run holds, on a page that fetches nothing and stays light."""

import base64
import hashlib
import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rankscope.report import build_report
from rankscope.report.charts import comparison, staircase, thin
from rankscope.report.contents import CURVE, Fit
from rankscope.report.images import image_shape, picture
from rankscope.report.tables import TITLES
from rankscope.runs import Run
from report_fixture import SEVERAL, Page, make_run


def values(array: dict) -> np.ndarray:
    assert array["dtype"] == "f4"
    return np.frombuffer(base64.b64decode(array["bdata"]), dtype="<f4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(build_report(run))


# What a whole page holds


def test_the_page_is_self_contained(run: Run, page: Page) -> None:
    assert (run.path / "report.html").stat().st_size < 6_000_000
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert re.match(r"data:|figures/[^/:]+$|$", attributes.get(name) or ""), attributes
    assert not re.search(r"url\(|@import", (run.path / "report.html").read_text().split("</style>")[0])


def test_only_the_pages_own_scripts_may_run_and_nothing_is_fetched(page: Page) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta) or ""
    _, plotly, *own = page.scripts
    assert len(own) == 2
    for script in (plotly, *own):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    assert "plotly.js v" in plotly


def test_the_staircase_carries_what_was_logged(run: Run, page: Page) -> None:
    metrics = run.metrics()
    for i, fit in enumerate(SEVERAL):
        logged = metrics[metrics["fit"] == fit]
        rank, nuclear, error = page.charts[f"staircase-{i}"]["data"]
        np.testing.assert_allclose(values(rank["x"]), logged["step"])
        for trace, column in ((rank, "effective_rank"), (nuclear, "nuclear_over_operator"), (error, "relative_error")):
            np.testing.assert_allclose(values(trace["y"]), logged[column], rtol=1e-6)
        sigmas = values(nuclear["customdata"]).reshape(-1, 2)
        np.testing.assert_allclose(sigmas, logged[["sigma_1", "sigma_2"]], rtol=1e-6)


def test_plateaus_are_shaded_and_levels_dashed(run: Run, page: Page) -> None:
    facts = run.json("fits")[SEVERAL[0]]
    layout = page.charts["staircase-0"]["layout"]
    spans = [shape for shape in layout["shapes"] if shape["type"] == "rect"]
    lines = [shape for shape in layout["shapes"] if shape["type"] == "line"]
    assert [(span["x0"], span["x1"]) for span in spans] == [(p["start"], p["end"]) for p in facts["plateaus"]]
    assert [note["text"] for note in layout["annotations"]] == ["k = 1"]
    drawn = [level["effective_rank"] for level in facts["levels"] if level["effective_rank"] <= facts["effective_rank"]]
    assert [line["y0"] for line in lines] == pytest.approx(drawn)


def test_of_many_levels_only_those_at_a_plateau_cross_the_chart() -> None:
    curve = pd.DataFrame({name: np.linspace(1, 16, 50) for name in CURVE})
    levels = [
        {"k": k, "effective_rank": rank} for k, rank in enumerate([1, 1.9, 2.5, *range(3, 16), 14.9, 99], start=1)
    ]
    plateaus = [{"start": 3, "end": 9, "k": 2}, {"start": 20, "end": 30, "k": 17}, {"start": 40, "end": 45, "k": None}]
    lines = [
        shape
        for shape in staircase(Fit("a", curve, {"levels": levels, "plateaus": plateaus}, {}))["layout"]["shapes"]
        if shape["type"] == "line"
    ]
    across = [line["label"]["text"] for line in lines if line["x1"] == 1]
    assert across == ["best rank 2", "best rank 17"]
    heights = [line["y0"] for line in lines]
    assert heights == sorted(heights)
    assert min(np.diff(heights)) >= 0.05 * 16
    assert max(heights) <= 1.04 * 16
    assert all(line["x1"] <= 0.1 for line in lines if line["label"]["text"] not in across)
    few = staircase(Fit("a", curve, {"levels": levels[:6]}, {}))["layout"]["shapes"]
    assert [line["x1"] for line in few] == [1] * 5  # 2.5 would touch 1.9 or 3


def test_several_fits_are_compared_and_one_is_not(page: Page, tmp_path: Path) -> None:
    for name in ("compare-step-relative_error", "compare-seconds-relative_error", "compare-step-effective_rank"):
        assert [trace["name"] for trace in page.charts[name]["data"]] == list(SEVERAL)
    alone = Page(build_report(make_run(tmp_path, fits=("only",))))
    assert list(alone.charts) == ["staircase-0"]
    assert "compared" not in alone.text


def test_pictures_headings_and_ids_are_there_for_every_reader(page: Page) -> None:
    assert all(image["alt"] for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert {"chart", "fit"} <= {attributes.get("class") for attributes in page.all("div")}


def test_every_part_of_the_run_is_shown(run: Run, page: Page) -> None:
    for words in (
        "digits, rank 6",
        "Signatures: rows of H",
        "Reconstructions at each plateau",
        "Generated rows",
        "plateau 1, rank 1.00, k = 1",
        "torch_threads",
        "nndsvda, random",
        "0.87",
    ):
        assert words in page.text, words
    assert f"{run.metrics()['relative_error'].iloc[-1]:.4g}" in page.text
    assert "incomplete" not in page.text
    assert build_report(run).read_bytes() == build_report(run).read_bytes()


def test_reconstructions_are_those_of_the_example_rows(run: Run, page: Page) -> None:
    factors, examples = run.arrays("factors"), run.arrays("examples")
    fit = SEVERAL[0]
    rebuilt = factors[f"{fit}/F1"][examples["rows"]] @ factors[f"{fit}/F2"]
    row = int(examples["rows"][2])
    top = examples["X"].max()
    uri = next(image["src"] for image in page.all("img") if image["alt"] == f"Row {row}, rebuilt") or ""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    np.testing.assert_allclose(pixels / 255, np.clip(rebuilt[2] / top, 0, 1).reshape(8, 8), atol=0.5 / 255 + 1e-9)
    error = ((examples["X"][2] - rebuilt[2]) ** 2).sum() / (examples["X"][2] ** 2).sum()
    assert f"{error:.2g}" in page.text


def test_small_figures_are_embedded_and_large_ones_linked(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run.path / "figures" / "large one#.png").write_bytes(b"\x89PNG" + bytes(300_001))
    page = Page(build_report(run))
    assert any(image["alt"] == "staircase" for image in page.all("img"))
    assert not any("large" in (image["alt"] or "") for image in page.all("img"))
    links = {link["href"] for link in page.all("a")}
    assert links == {"figures/large%20one%23.png", "figures/staircase.png", "figures/staircase.svg"}


# Other data


def test_rows_that_are_no_images_become_curves(tmp_path: Path) -> None:
    page = Page(build_report(make_run(tmp_path, image_shape=None)))
    assert len(page.all("polyline")) > 20
    assert [image["alt"] for image in page.all("img")] == ["staircase"]


def test_a_deep_chain_shows_each_layer(tmp_path: Path) -> None:
    run = make_run(tmp_path, fits=("deep",), ranks=[8, 6])
    factors = run.arrays("factors")
    W, H = factors["deep/F1"], factors["deep/F2"]
    middle = np.eye(6, 8).T + 0.1
    run.save_arrays("factors", {"deep/F1": W @ np.linalg.pinv(middle), "deep/F2": middle, "deep/F3": H})
    text = Page(build_report(run)).text
    assert "digits, rank 8 → 6" in text
    assert "Signatures: rows of H" in text
    assert "Signatures: rows of F2 F3" in text


def test_many_fits_of_large_colour_images_stay_light(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = Run.create(tmp_path, "nmf", config={"data": "noise", "image_shape": [3, 64, 64]})
    H = rng.random((20, 3 * 64 * 64), dtype=np.float32)
    W = rng.random((9, 20), dtype=np.float32)
    keys = [f"fit {i}/{stage}F{layer}" for i in range(6) for stage in ("", "plateau1/") for layer in (1, 2)]
    run.save_arrays("factors", {key: W if key.endswith("F1") else H for key in keys})
    run.save_arrays("examples", {"X": W @ H, "rows": np.arange(9), "samples": W @ H})
    path = build_report(run)
    assert path.stat().st_size < 7_000_000
    assert "left out to keep this page light" in Page(path).text


@pytest.mark.parametrize(
    ("shape", "n", "seen"),
    [
        ([8, 8], 64, (8, 8)),
        ([3, 4, 5], 60, (3, 4, 5)),
        ([1, 4, 5], 20, (1, 4, 5)),
        ([4, 5, 3], 60, None),
        ([64], 64, None),
        ([8, 9], 64, None),
        (None, 64, None),
        ("88", 64, None),
        ([-8, -8], 64, None),
    ],
)
def test_image_shapes(shape: object, n: int, seen: tuple[int, ...] | None) -> None:
    assert image_shape(shape, n) == seen


def test_colour_stays_colour() -> None:
    image = np.zeros((3, 4, 4))
    image[0, :2], image[2, 2:] = 1.0, 0.5
    uri = picture(image.ravel(), (3, 4, 4), top=1.0, alt="two bands").src
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
    np.testing.assert_allclose(pixels / 255, np.moveaxis(image, 0, -1), atol=1 / 255)


# Thinning


def test_in_a_grid_a_colour_is_a_solver_and_a_dash_a_start() -> None:
    curve = pd.DataFrame({"step": [0, 1], "relative_error": [0.5, 0.3]})
    fits = [Fit(f"{solver}-{start}", curve, {}, {}) for solver in ("hals", "mu") for start in ("random", "eye")]
    chart = comparison(fits, "step", "relative_error", titles=TITLES)
    looks = [(trace["meta"]["ink"], trace["line"]["dash"]) for trace in chart["data"]]
    assert looks == [(0, "solid"), (0, "dash"), (1, "solid"), (1, "dash")]
    assert chart["layout"]["yaxis"]["tickformat"] == "~g"  # plotly would write 5 for 0.5


@pytest.mark.parametrize("count", [3, 2000, 2001, 10_000, 60_000])
def test_a_thinned_curve_keeps_its_ends_its_extremes_and_its_shape(count: int) -> None:
    step = np.arange(count)
    rank = 1 + 4 / (1 + np.exp(-6 * (np.log(step + 1) - 5)))
    rank[count // 3], rank[count // 2] = 30.0, 0.1
    error = np.exp(-step / 900)
    error[count // 4] = np.nan
    curve = pd.DataFrame({"step": step, "effective_rank": rank, "relative_error": error})
    thinned = thin(curve, 2000)
    assert len(thinned) <= 2000
    assert thinned["step"].is_monotonic_increasing
    assert {0, count - 1, count // 3, count // 2} <= set(thinned["step"])
    if count <= 2000:
        assert len(thinned) == count
    smooth = np.ones(count, dtype=bool)
    smooth[[count // 3, count // 2]] = False
    drawn = np.interp(np.log1p(step), np.log1p(thinned["step"]), thinned["effective_rank"])
    assert np.median(np.abs(drawn - rank)[smooth]) < 0.01


def test_a_curve_without_a_single_number_can_be_thinned() -> None:
    curve = pd.DataFrame({"step": np.arange(5000), "effective_rank": np.nan, "relative_error": np.nan})
    assert 2 <= len(thin(curve, 2000)) <= 2000
