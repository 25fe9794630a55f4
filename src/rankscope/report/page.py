"""Put the page together: everything escaped, every script known by its hash, nothing fetched."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rankscope.report.charts import comparison, staircase
from rankscope.report.contents import Contents, Fit, read_contents
from rankscope.report.images import data_uri
from rankscope.report.player import Player, fit_player
from rankscope.report.strips import Pictures, fit_pictures
from rankscope.report.tables import TITLES, Table, flat, number, readings, records, results, text
from rankscope.report.weights import weight_results
from rankscope.runs import Run

_EMBEDDED, _EMBEDDED_IN_ALL = 300_000, 700_000  # bytes of PNG files of figures/


@dataclass(frozen=True)
class Section:
    """One fit as the template wants it."""

    fit: Fit
    pictures: Pictures
    player: Player | str
    facts: dict[str, str]
    plateaus: Table | None
    readings: Table | None
    generation: dict[str, str]
    health: dict[str, str]
    healthy: bool | None
    messages: list[str]


@dataclass(frozen=True)
class Figure:
    """A file of figures/: embedded when `src` holds its data, else only linked."""

    name: str
    src: str
    links: dict[str, str]


def build_report(run: Run) -> Path:
    """Write report.html of a run, complete or not, and return its path.

    The page holds plotly, all data and all pictures, and forbids every request by its content security policy.
    """
    contents = read_contents(run)
    sections = [_section(run, contents, fit) for fit in contents.fits]
    charts = _charts(contents)
    own = files("rankscope.report")
    scripts = [get_plotlyjs(), *(own.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in ("player", "page"))]
    page = _template().render(
        title=_title(contents, run),
        run=run,
        contents=contents,
        facts=_headline(contents),
        results=(weight_results if contents.of_weights else results)(contents.results),
        sections=sections,
        figures=list(_figures(run)),
        charts=script_json(charts),
        drawn=set(charts),
        config=dict(flat(contents.config)),
        environment=dict(flat(contents.environment)),
        style=Markup(own.joinpath("page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
    )
    return run.save_text("report.html", page)


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("rankscope.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template("page.html.j2")


def _policy(scripts: list[str]) -> str:
    """Only these very scripts may run, and nothing may be fetched: the page works offline or not at all."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def script_json(value: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    dumped = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(dumped.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _charts(contents: Contents) -> dict[str, Any]:
    fits = contents.fits
    charts = {f"staircase-{i}": staircase(fit, fits=len(fits)) for i, fit in enumerate(fits) if len(fit.curve)}
    drawn = [fit for fit in fits if len(fit.curve)]
    if len(drawn) > 1:
        pairs = (("step", "relative_error"), ("seconds", "relative_error"), ("step", "effective_rank"))
        for x, y in pairs:
            if any(fit.curve[[x, y]].notna().all(axis=1).any() for fit in drawn):
                charts[f"compare-{x}-{y}"] = comparison(drawn, x, y, titles=TITLES)
    return charts


def _section(run: Run, contents: Contents, fit: Fit) -> Section:
    health = fit.facts.get("health")
    health = health if isinstance(health, Mapping) else {}
    generation = fit.facts.get("generation")
    messages = health.get("messages")
    last = fit.curve.iloc[-1] if len(fit.curve) else pd.Series(dtype=float)
    facts = {
        "steps": fit.facts.get("n_iter", last.get("step")),
        "relative error": fit.facts.get("relative_error", last.get("relative_error")),
        "effective rank": fit.facts.get("effective_rank", last.get("effective_rank")),
        "seconds": fit.facts.get("seconds", last.get("seconds")),
        "converged": fit.facts.get("converged"),
    }
    pictureless = contents.of_weights or contents.reproduces
    return Section(
        fit=fit,
        pictures=Pictures([], [], []) if pictureless else fit_pictures(run, contents, fit),
        player="" if pictureless else fit_player(run, contents, fit),
        facts={name: number(value) for name, value in facts.items()},
        plateaus=records(fit.plateaus),
        readings=readings(fit.curve),
        generation={name: number(value) for name, value in generation.items()}
        if isinstance(generation, Mapping)
        else {},
        health=dict(flat({key: value for key, value in health.items() if key not in {"ok", "messages"}})),
        healthy=health.get("ok"),
        messages=[str(message) for message in messages] if isinstance(messages, list) else [],
    )


def _title(contents: Contents, run: Run) -> str:
    config = contents.config
    data = Path(str(config.get("data") or run.name)).name
    if contents.of_weights:
        return f"Weight matrices on {data}"
    ranks = config.get("ranks")
    chain = " → ".join(map(str, ranks)) if isinstance(ranks, list) else ""
    return f"{data}, rank {chain}" if chain else data


def _headline(contents: Contents) -> dict[str, str]:
    config = contents.config
    shape = config.get("shape")
    if contents.of_weights:
        named = ("data", "inputs", "protocol", "trials", "epochs", "seeds", "hidden", "depth", "schedule", "seed")
        return {name: text(config[name]) for name in named if config.get(name) is not None}
    if contents.reproduces:
        return {name: text(config[name]) for name in ("experiment", "source") if config.get(name) is not None}
    facts = {
        "data": config.get("data"),
        "matrix": " × ".join(map(str, shape)) if isinstance(shape, list) else None,
        "rows": config.get("rows"),
        "solver": config.get("solver"),
        "init": config.get("init"),
        "most steps": config.get("max_iter"),
        "stop": config.get("stop"),
        "seed": config.get("seed"),
    }
    return {key: text(value) for key, value in facts.items() if value is not None}


def _figures(run: Run) -> Iterator[Figure]:
    folder = run.path / "figures"
    paths = sorted(folder.glob("*.png")) if folder.is_dir() else []
    room = _EMBEDDED_IN_ALL
    for path in paths:
        size = path.stat().st_size
        embedded = size <= min(_EMBEDDED, room)
        room -= size if embedded else 0
        links = {
            p.suffix[1:].upper(): f"figures/{quote(p.name)}" for p in (path, path.with_suffix(".svg")) if p.is_file()
        }
        yield Figure(path.stem, data_uri(path.read_bytes()) if embedded else "", links)
