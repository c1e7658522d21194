import io
from pathlib import Path

import pytest
from rich.console import Console

from dfw.console import ConsoleListener, duration_text, split_text
from dfw.events import RunEnded, RunStarted, StepEnded
from dfw.schedules import Progress
from dfw.settings import ComponentSettings, LossSettings, RunConfig

CONFIG = RunConfig(
    prompt="a [red] mushroom",
    geometry=ComponentSettings(type="g"),
    renderer=ComponentSettings(type="r"),
    losses={"l": LossSettings(type="l")},
)


def test_split_is_shares_of_the_whole():
    seconds = {"render": 2.0, "guidance": 1.0, "backward": 1.0}
    assert split_text(seconds) == "render 50 %, guidance 25 %, backward 25 %, optimizer 0 %"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (187, "3 min 07 s")])
def test_durations(seconds, text):
    assert duration_text(seconds) == text


def test_lines_tell_prompt_progress_and_files(tmp_path):
    out = io.StringIO()
    listener = ConsoleListener(Console(file=out, width=200, highlight=False), lines_every=0.0)
    listener.dfw_run_started(RunStarted(Path("runs/x"), CONFIG, 2, {}))
    for step in range(2):
        listener.dfw_step_ended(StepEnded(Progress(step, 2), 1.0, {"opacity": 0.25}, {"render": 0.3, "backward": 0.1}))
    listener.dfw_run_ended(RunEnded(Path("runs/x"), "finished", 61.0, {"glb": tmp_path / "mesh.glb"}))
    text = out.getvalue()
    assert "a [red] mushroom -> runs/x" in text
    assert "step 2/2  0 s left  opacity 0.250  render 75 %" in text
    assert "finished after 1 min 01 s" in text
    assert str(tmp_path / "mesh.glb") in text
