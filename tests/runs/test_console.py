import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dfw.config.schedules import Progress
from dfw.config.settings import ComponentSettings, LossSettings, RunConfig
from dfw.interfaces.events import PhaseBegan, RunEnded, RunStarted, StepEnded
from dfw.runs.console import ConsoleListener, split_text

CONFIG = RunConfig(
    prompt="a [red] mushroom",
    geometry=ComponentSettings(type="g"),
    renderer=ComponentSettings(type="r"),
    losses={"l": LossSettings(type="l")},
)


def test_split_is_shares_of_the_whole():
    seconds = {"render": 2.0, "guidance": 1.0, "backward": 1.0}
    assert split_text(seconds) == "render 50 %, guidance 25 %, backward 25 %, optimizer 0 %"


@pytest.mark.parametrize("forced", [None, "1"])
def test_lines_tell_prompt_progress_and_files(tmp_path, monkeypatch, forced):
    """Also in a log file of a service that sets FORCE_COLOR, where rich takes every file for a terminal."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if forced:
        monkeypatch.setenv("FORCE_COLOR", forced)
    out = io.StringIO()
    listener = ConsoleListener(Console(file=out, width=200, highlight=False), lines_every=0.0)
    listener.dfw_run_started(RunStarted(Path("runs/x"), CONFIG, 2, {}))
    for step, left in enumerate((80.0, 75.0)):
        parts = {"render": 0.3, "backward": 0.1}
        listener.dfw_step_ended(StepEnded(Progress(step, 2), 1.0, {"opacity": 0.25}, parts, seconds_left=left))
    for part in ("mesh", "texture", "texture"):
        listener.dfw_phase_began(PhaseBegan(f"writing the {part}"))
    listener.dfw_run_ended(
        RunEnded(Path("runs/x"), "finished", 61.0, {"glb": tmp_path / "mesh.glb"}, {"start": 1.0, "steps": 60.0})
    )
    listener.dfw_run_ended(RunEnded(Path("runs/x"), "interrupted", 61.0, {}))
    text = out.getvalue()
    assert "to continue: dfw run --resume runs/x" in text
    assert text.count("--resume") == 1
    assert "a [red] mushroom -> runs/x" in text
    assert "previews: runs/x/images" in text
    assert "report: runs/x/report.html renews itself in a browser" in text
    assert "step 2/2  1 min 15 s left  opacity 0.250  render 75 %" in text
    assert text.count("writing the mesh ...\n") == text.count("writing the texture ...\n") == 1
    assert "finished after 1 min 01 s: start 1 s, steps 1 min 00 s" in text
    assert str(tmp_path / "mesh.glb") in text
    assert "\x1b" not in text
    assert "\r" not in text


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_what_it_says(tmp_path):
    """`dfw run ... | head -1`: the pipe closes after the first line."""
    options = ["trainer.steps=30", "trainer.preview_every=30", "cameras.width=16", "device=cpu", f"output={tmp_path}"]
    command = [sys.executable, "-m", "dfw", "run", "playground-2d", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")
    (status,) = tmp_path.glob("*/*/status.json")
    assert json.loads(status.read_text())["status"] == "finished"


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_stage_is_continued_with_the_whole_run(tmp_path, status):
    (tmp_path / "a run" / "1-coarse").mkdir(parents=True)
    (tmp_path / "a run" / "stages.yaml").touch()
    out = io.StringIO()
    listener = ConsoleListener(Console(file=out, width=200, highlight=False))
    listener.dfw_run_ended(RunEnded(tmp_path / "a run" / "1-coarse", status, 61.0, {}))
    assert f"to continue: dfw run --resume '{tmp_path / 'a run'}'\n" in out.getvalue()
