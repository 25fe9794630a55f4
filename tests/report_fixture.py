"""A small but real run for the tests of the report (two fits of the digits, a plateau each), and a page taken apart."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from rankscope.runs import Run
from rankscope.studies.camera import Camera

SEVERAL = ("hals nndsvda", "mu random")


class Page(HTMLParser):
    """The elements, the text and the scripts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._within = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def charts(self) -> dict:
        return json.loads(self.scripts[0])


def make_run(out: Path, *, fits: tuple[str, ...] = SEVERAL, finish: bool = True, **config: Any) -> Run:
    """Fit 200 digits with six components, watching the spectrum, and write what a study writes."""
    A = load_digits().data[:200] / 16
    run = Run.create(out, "nmf", config=_config(A, **config))
    factors, facts, snapshots = {}, {}, {}
    rows = np.array([0, 3, 17, 50, 99, 199])
    for seed, name in enumerate(fits):
        with threadpool_limits(1):  # threads only wait for each other on matrices this small
            curve, stages, camera = multiply(A, 6, seed=seed, rows=rows)
        run.append_metrics(name, curve)
        for stage, (W, H) in stages.items():
            factors |= {f"{name}/{stage}F1": W, f"{name}/{stage}F2": H}
        facts[name] = _facts(A, curve)
        snapshots |= camera.snapshots().arrays(name)
    samples = np.clip(A[::20] + 0.1, 0, 1)
    run.save_arrays("factors", factors)
    run.save_arrays("snapshots", snapshots)
    run.save_arrays("examples", {"X": A[rows], "rows": rows, "samples": samples})
    run.save_json("fits", facts)
    run.save_table("results", pd.DataFrame([{"fit": name, **_row(fact)} for name, fact in facts.items()]))
    figure = Figure(figsize=(5, 3))
    figure.subplots().semilogx(curve["step"], curve["effective_rank"])
    run.save_figure("staircase", figure)
    if finish:
        run.finish({"fits": len(fits)})
    return run


def multiply(
    A: np.ndarray, r: int, *, seed: int, rows: np.ndarray, steps: int = 400
) -> tuple[pd.DataFrame, dict[str, Any], Camera]:
    """Lee & Seung's updates from a small, nearly uniform start, with the factors at step 3 kept as a plateau."""
    camera = Camera(rows, max_iter=steps)
    rng = np.random.default_rng(seed)
    W, H = (1e-1 + 1e-4 * rng.random(shape) for shape in ((A.shape[0], r), (r, A.shape[1])))
    log, stages = [], {}
    for step in range(1, steps + 1):
        W = W * (A @ H.T) / (W @ H @ H.T + 1e-12)
        H = H * (W.T @ A) / (W.T @ W @ H + 1e-12)
        gram = np.linalg.eigvals(W.T @ W @ H @ H.T).real
        sigma = np.sqrt(np.sort(np.maximum(gram, 0))[::-1])
        p = sigma[sigma > 0] / sigma.sum()
        error = np.linalg.norm(A - W @ H)
        log.append(
            {
                "step": step,
                "seconds": step * 1e-3 * (1 + seed),
                "relative_error": error**2 / np.linalg.norm(A) ** 2,
                "absolute_error": error,
                "effective_rank": float(np.exp(-(p * np.log(p)).sum())),
                "nuclear_over_operator": sigma.sum() / sigma[0],
                "sigma_1": sigma[0],
                "sigma_2": sigma[1],
            }
        )
        if step == 3:
            stages["plateau1/"] = (W, H)
        if camera.due(step) or step == steps:
            camera.take(step, (W, H))
    return pd.DataFrame(log), stages | {"": (W, H)}, camera


def _config(A: np.ndarray, **config: Any) -> dict[str, Any]:
    return {
        "data": "digits",
        "rows": "0:200",
        "ranks": [6],
        "solver": ["hals", "mu"],
        "init": ["nndsvda", "random"],
        "max_iter": 400,
        "stop": "none",
        "seed": 0,
        "image_shape": [8, 8],
        "shape": list(A.shape),
        **config,
    }


def _facts(A: np.ndarray, curve: pd.DataFrame) -> dict[str, Any]:
    last = curve.iloc[-1]
    s = np.linalg.svd(A, compute_uv=False)
    levels = []
    for k in range(1, 7):
        p = s[:k] / s[:k].sum()
        levels.append(
            {
                "k": k,
                "effective_rank": float(np.exp(-(p * np.log(p)).sum())),
                "relative_error": float((s[k:] ** 2).sum() / (s**2).sum()),
            }
        )
    flat = curve[curve["effective_rank"] < 1.05]
    ends = {"start": int(flat["step"].min()), "end": int(flat["step"].max())}
    found = {"level": float(flat["effective_rank"].median()), "relative_error": float(flat["relative_error"].median())}
    plateau = {**ends, **found, "k": 1, "kind": "transient"}
    return {
        "n_iter": len(curve),
        "relative_error": float(last["relative_error"]),
        "effective_rank": float(last["effective_rank"]),
        "seconds": float(last["seconds"]),
        "converged": True,
        "plateaus": [plateau],
        "levels": levels,
        "health": {"ok": True, "messages": [], "locked": 0, "dead": 0},
        "generation": {"score": 0.87, "nearest": 1.4},
    }


def _row(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("n_iter", "relative_error", "effective_rank", "seconds", "converged")}
