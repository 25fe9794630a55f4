"""In a real browser, from disk: no request leaves the page, no script fails, hovering and tabs say what was logged."""

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rankscope.report import build_report
from rankscope.runs import Run, read_snapshots
from report_fixture import SEVERAL, make_run

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CONTRAST = """() => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3)
      .map((value) => value / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const colours = [...document.querySelectorAll("p, h1, th, td, summary, .chart text")]
    .filter((element) => element.closest(".banner, .health, .hoverlayer") === null)
    .map((element) => getComputedStyle(element)[element instanceof SVGElement ? "fill" : "color"]);
  const lines = [...document.querySelectorAll(".js-line")].map((line) => getComputedStyle(line).stroke);
  const ratio = (colour) => {
    const ink = luminance(colour);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  };
  return [Math.min(...colours.map(ratio)), Math.min(...lines.map(ratio))];
}"""  # WCAG 2: the least contrast of any text and of any curve with the paper
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@dataclass
class Visit:
    """A page and whatever it did that it should not have."""

    page: Any
    trouble: list[str] = field(default_factory=list)

    def hover(self, chart: str, x: float) -> str:
        """The text of the hover label at a fraction x of the chart's width."""
        plot = self.page.locator(f"#{chart} .nsewdrag").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        self.page.mouse.move(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
        label = self.page.locator(f"#{chart} .hoverlayer")
        playwright.expect(label).to_contain_text("relative error")
        return label.text_content()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("runs"), data=EVIL)
    build_report(run)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


# Playwright talks to the browser over local sockets, whatever the rest of the suite forbids.
@pytest.fixture
def visit(socket_enabled: None, browser: Any, run: Run, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """The report, opened with the settings of the test's parameter; nothing may go wrong until the test ends."""
    settings = {"viewport": {"width": 1200, "height": 900}, **getattr(request, "param", {})}
    context = browser.new_context(**settings)
    visit = Visit(context.new_page())
    watch(visit)
    visit.page.goto((run.path / "report.html").as_uri())
    visit.page.wait_for_selector("#staircase-0 .main-svg")
    yield visit
    context.close()
    assert visit.trouble == []


def watch(visit: Visit) -> None:
    local = re.compile(r"(file|data|blob):")
    page, trouble = visit.page, visit.trouble
    page.on("request", lambda request: None if local.match(request.url) else trouble.append(request.url))
    page.on("console", lambda message: trouble.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))

    def dialog(opened: Any) -> None:
        trouble.append(f"dialog: {opened.message}")
        opened.dismiss()

    page.on("dialog", dialog)


def test_charts_are_drawn_and_hovering_shows_the_logged_values(visit: Visit, run: Run) -> None:
    charts = visit.page.locator(".chart:visible")
    assert charts.count() == 4
    for i in range(4):
        assert charts.nth(i).locator(".scatterlayer .js-line").count() >= 2
    assert visit.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")

    logged = run.metrics().query("fit == @SEVERAL[0]").set_index("step")
    steps = set()
    for x in (0.3, 0.6, 0.9):
        text = visit.hover("staircase-0", x)
        step = int(re.search(r"step ([\d,]+?)effective", text)[1].replace(",", ""))
        row = logged.loc[step]
        for words, column in (
            (r"effective rank : ", "effective_rank"),
            (r"nuclear / operator : ", "nuclear_over_operator"),
            (r"σ₁  ", "sigma_1"),
            (r"σ₂  ", "sigma_2"),
            (r"relative error : ", "relative_error"),
        ):
            shown = float(re.search(words + r"([-\d.]+(e-?\d+)?)", text)[1])
            assert shown == pytest.approx(row[column], rel=1e-4), (step, column)
        steps.add(step)
    assert len(steps) == 3


def test_tabs_show_one_fit_at_a_time_by_mouse_and_by_keyboard(visit: Visit) -> None:
    tabs, first, second = (visit.page.locator(selector) for selector in ("[role=tab]", "#fit-0", "#fit-1"))
    assert tabs.all_text_contents() == list(SEVERAL)
    assert (first.is_visible(), second.is_visible()) == (True, False)
    tabs.nth(1).click()
    assert (first.is_visible(), second.is_visible()) == (False, True)
    assert "effective rank" in visit.hover("staircase-1", 0.5)
    tabs.nth(1).press("ArrowRight")
    assert (first.is_visible(), second.is_visible()) == (True, False)
    assert visit.page.evaluate("document.activeElement.textContent") == SEVERAL[0]
    assert tabs.first.get_attribute("aria-selected") == "true"
    visit.page.locator("body").press("Tab")
    assert visit.page.evaluate("document.activeElement !== document.body")


def test_text_and_curves_stand_out_by_day_and_when_night_falls(visit: Visit) -> None:
    curve = visit.page.locator("#staircase-0 .js-line").first
    by_day = curve.evaluate("(line) => getComputedStyle(line).stroke")
    for night in (False, True):
        if night:
            visit.page.emulate_media(color_scheme="dark")
            playwright.expect(curve).not_to_have_css("stroke", by_day)
        text, lines = visit.page.evaluate(CONTRAST)
        assert text >= 4.5, night
        assert lines >= 3, night


PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_a_phone_reads_it_without_scrolling_sideways(visit: Visit) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    plot = visit.page.locator("#staircase-0 .nsewdrag").first
    plot.scroll_into_view_if_needed()
    plot.tap()
    playwright.expect(visit.page.locator("#staircase-0 .hoverlayer")).to_contain_text("effective rank")


def test_a_page_of_almost_nothing_runs_too(socket_enabled: None, browser: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, finish=False)
    metrics = run.path / "metrics.csv"
    metrics.write_text("\n".join(metrics.read_text().split("\n")[:2]) + "\n")
    (run.path / "factors.safetensors").unlink()
    visit = Visit(browser.new_page())
    watch(visit)
    visit.page.goto(build_report(run).as_uri())
    visit.page.wait_for_selector("#staircase-0 .main-svg")
    visit.page.locator("[role=tab]").nth(1).click()
    visit.page.close()
    assert visit.trouble == []


PICTURE = """(selector) => {
  const canvas = document.querySelector(selector), { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, width, height).data].filter((_, i) => i % 4 === 0);
}"""
MARKER = "() => document.getElementById('staircase-0').layout.shapes.find((shape) => shape.name === 'moment').x0"
LINE = (
    "() => document.querySelector('#staircase-0 .shapelayer [style*=\"stroke-width: 2px\"]').getBoundingClientRect().x"
)


def stops(run: Run) -> list[int]:
    return read_snapshots(run, SEVERAL[0]).steps.tolist()


def at(visit: Visit, run: Run, stop: int) -> bool:
    """Whether pictures, marker and words are all those of a stop."""
    taken, step = read_snapshots(run, SEVERAL[0]), stops(run)[stop]
    words = visit.page.locator("#fit-0 output").text_content()
    picture = visit.page.evaluate(PICTURE, "#fit-0 canvas")
    same = picture == taken.signatures[2].pixels[stop, 0].tolist()
    return same and words.startswith(f"step {step:,d} ·") and visit.page.evaluate(MARKER) == step


def test_slider_pictures_marker_and_words_move_together(visit: Visit, run: Run) -> None:
    slider, last = visit.page.locator("#moment-0"), len(stops(run)) - 1
    assert not visit.page.locator("#fit-0 .still").is_visible()
    assert at(visit, run, last)
    before = visit.page.evaluate(LINE)
    slider.fill("12")
    assert at(visit, run, 12)
    assert visit.page.evaluate(LINE) < before - 10
    slider.press("ArrowRight")
    assert at(visit, run, 13)
    slider.press("Home")
    assert at(visit, run, 0)
    assert f"step {stops(run)[0]} " in slider.get_attribute("aria-valuetext")
    assert visit.page.locator("#moment-1").input_value() == str(len(read_snapshots(run, SEVERAL[1]).steps) - 1)
    visit.page.emulate_media(color_scheme="dark")
    visit.page.wait_for_timeout(100)
    assert at(visit, run, 0)  # drawn anew, it stays where it was


def test_a_click_into_the_staircase_goes_to_the_nearest_stop(visit: Visit, run: Run) -> None:
    said = visit.hover("staircase-0", 0.6)
    clicked = int(re.search(r"step ([\d,]+)", said)[1].replace(",", ""))
    visit.page.mouse.down()
    visit.page.mouse.up()
    nearest = min(stops(run), key=lambda step: abs(math.log((step + 1) / (clicked + 1))))
    playwright.expect(visit.page.locator("#fit-0 output")).to_contain_text(f"step {nearest:,d} ")
    assert at(visit, run, stops(run).index(nearest))


def test_play_begins_anew_runs_and_pauses(visit: Visit, run: Run) -> None:
    button, slider = visit.page.locator("#fit-0 .play"), visit.page.locator("#moment-0")
    button.click()
    playwright.expect(button).to_have_text("Pause")
    playwright.expect(slider).to_have_js_property("value", "3")
    button.click()
    playwright.expect(button).to_have_text("Play")
    assert at(visit, run, int(slider.input_value()))


@pytest.mark.parametrize("visit", [{"reduced_motion": "reduce"}], indirect=True)
def test_who_wants_no_motion_has_the_slider_alone(visit: Visit, run: Run) -> None:
    assert not visit.page.locator("#fit-0 .play").is_visible()
    visit.page.locator("#moment-0").fill("2")
    assert at(visit, run, 2)


def test_without_scripts_the_moments_stand_still_on_the_page(socket_enabled: None, browser: Any, run: Run) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run.path / "report.html").as_uri())
    still = page.locator("#fit-0 .still")
    assert still.is_visible()
    assert still.locator("img").count() >= 3 * 6
    assert not page.locator("#moment-0").is_visible()
    context.close()


def test_rows_that_are_no_images_move_as_curves(socket_enabled: None, browser: Any, tmp_path: Path) -> None:
    visit = Visit(browser.new_page())
    watch(visit)
    visit.page.goto(build_report(make_run(tmp_path, image_shape=None)).as_uri())
    curve = visit.page.locator("#fit-0 .screen polyline").first
    before = curve.get_attribute("points")
    assert before.count(",") == 64
    visit.page.locator("#moment-0").fill("0")
    assert curve.get_attribute("points") != before
    visit.page.close()
    assert visit.trouble == []
