"""The examples run, at a tiny size, and save what they say."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.filterwarnings("ignore:RankTracker passes over:RuntimeWarning")


def run(name, monkeypatch, *arguments):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    module.main(list(arguments))


def test_track_transformer(tmp_path, monkeypatch, capsys):
    run("track_transformer", monkeypatch, "--p", "7", "--steps", "12", "--out", str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    figures = {"learning.png", "effective_rank.png", "staircases.png", "singular_values.png"}
    assert names == figures | {"layers.csv", "curves.csv"}
    layers = pd.read_csv(tmp_path / "layers.csv")["layer"].unique().tolist()
    attention = [f"attention.{part}.weight" for part in ("query", "key", "value", "out")]
    assert layers == ["embed.weight", *attention, "up.weight", "down.weight", "unembed.weight"]
    assert "held out" in capsys.readouterr().out


def test_track_digits_mlp(tmp_path, monkeypatch, capsys):
    run("track_digits_mlp", monkeypatch, "--steps", "30", "--out", str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    phases = ("pre-training", "fine-tuning")
    assert names == {"staircases.png", "heatmaps.png"} | {
        f"{stem}_{phase}.{ending}"
        for phase in phases
        for stem, ending in (("layers", "csv"), ("singular_values", "png"))
    }
    before, after = (pd.read_csv(tmp_path / f"layers_{phase}.csv") for phase in phases)
    assert set(before["layer"]) == set(after["layer"]) == {"0.weight", "2.weight", "4.weight"}
    assert before["step"].max() == after["step"].max() == 30
    # The fine-tuning starts where the pre-training ended.
    assert after["sigma_1"][0] == pytest.approx(before["sigma_1"].iloc[-3], rel=1e-12)
    assert "all ten" in capsys.readouterr().out
