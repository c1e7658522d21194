"""A run whose files were named relative to its configuration can be opened from any directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfw.cli.main import main
from dfw.config.load import load_config
from dfw.runs.directory import RunDirectory

CONFIG = """\
extends: gaussian-2d
device: cpu
output: made
prompt: a square
guidance: {resolution: 8, means: {a coin: [0, 0, 0], a square: pictures/square.png}}
cameras: {width: 8}
geometry: {width: 8, height: 8}
trainer: {steps: 2, preview_width: 8}
"""


def test_a_run_is_opened_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "exp/pictures").mkdir(parents=True)
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "exp/pictures/square.png")
    (tmp_path / "exp/x.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "exp/x.yaml"]) == 0
    (run,) = (tmp_path / "exp/made/gaussian-2d").iterdir()
    picture = str(tmp_path / "exp/pictures/square.png")
    for name in ("config.yaml", "resolved.yaml"):
        guidance = load_config(run / name).guidance
        assert guidance is not None
        assert guidance.options["means"]["a square"] == picture
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert main(["run", "--resume", str(run), "trainer.steps=4"]) == 0
    assert len(RunDirectory.open(run).read_metrics()) == 4
    assert main(["render", str(run), "--frames", "1", "--width", "8"]) == 0
    assert main(["run", str(run / "config.yaml"), "output=again"]) == 0
    assert len(list((tmp_path / "else/again/gaussian-2d").iterdir())) == 1


def test_a_relative_output_of_an_override_is_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert main(["run", "gaussian-2d", "trainer.steps=1", "output=~/runs", "device=cpu"]) == 0
    assert len(list((tmp_path / "home/runs/gaussian-2d").iterdir())) == 1
    assert not Path("~").exists()
