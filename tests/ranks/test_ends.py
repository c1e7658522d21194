"""However one process of a run ends, the others end too, with a sentence, and the run goes on with any number of processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from warm_processes import Dfw, together

from dfw.cli.main import main
from dfw.runs.checkpoint_folder import list_checkpoints, newest_checkpoint
from dfw.runs.life import status_of

CONFIG = """\
prompt: a red square
device: cpu
geometry: {type: image, width: 16, height: 16}
renderer: plane
guidance: {type: gaussian, means: {a red square: [0.8, 0.3, 0.1]}, resolution: 16}
losses: {sds: {guidance_scale: 1}, trouble: {type: local/trouble}}
prompter: plain
cameras: {width: 16, batch_size: 2}
trainer: {steps: 6, preview_every: 50, checkpoint_every: 2, preview_width: 16}
export: {formats: [], turntable_frames: 0}
"""
PLUGIN = """\
import os
import signal

from dfw import Loss, register

WHERE, WHAT, *EARLY = os.environ.get("TROUBLE", ":").split(":")
HERE = os.environ.get("RANK", "0") == WHERE


class Trouble(Loss):
    def __init__(self, config):
        super().__init__()
        self.config = config
        if HERE and EARLY:
            os.kill(os.getpid(), getattr(signal, WHAT))

    def forward(self, inputs):
        if HERE and inputs.progress.step == 4:
            if WHAT == "raise":
                raise ValueError("the disk is full of eels")
            os.kill(os.getpid(), getattr(signal, WHAT))
        return (inputs.render.colour * 0).sum()


register("loss", "trouble", Trouble)
"""
COMMAND = ("run", "c.yaml", "--plugin", "parts.py", "output=runs")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    Path("parts.py").write_text(PLUGIN)


def only_run() -> Path:
    (found,) = Path("runs").glob("*/*")
    return found


def status() -> dict[str, object]:
    found: dict[str, object] = json.loads((only_run() / "status.json").read_text())
    return found


def values() -> torch.Tensor:
    return load_file(newest_checkpoint(only_run() / "checkpoints") / "geometry.safetensors")["values"]


def test_a_process_that_is_killed_ends_the_run_which_goes_on_with_another_number(tmp_path: Path) -> None:
    """The bits of the end are those of a run that nobody killed, up to rounding."""
    leader, follower = together(tmp_path, 2, *COMMAND, TROUBLE="1:SIGKILL")
    assert (leader.wait(), follower.wait()) == (1, -9), leader.said
    assert status()["status"] == "failed"
    assert "process 1 of the 2 of this run has gone without a word" in str(status()["diagnosis"])
    assert "--resume RUN" in leader.said
    assert "dfw run --resume" in leader.said
    assert "Traceback" not in leader.said
    assert [path.name for path in list_checkpoints(only_run() / "checkpoints")][-1] == "step-000004"
    processes = together(tmp_path, 3, "run", "--resume", str(only_run()), "--plugin", "parts.py")
    assert [one.wait() for one in processes] == [0, 0, 0], [one.said for one in processes]
    assert "was made with 2 processes and goes on with 3" in processes[0].said
    assert [one.said for one in processes[1:]] == ["", ""]
    assert status()["status"] == "finished"
    several = values()
    assert Dfw(tmp_path, *COMMAND, "output=alone").wait() == 0
    Path("runs").rename("several")
    Path("alone").rename("runs")
    assert torch.allclose(several, values(), rtol=0, atol=1e-6)


def test_a_leader_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    leader, follower = together(tmp_path, 2, *COMMAND, TROUBLE="0:SIGKILL")
    assert (follower.wait(), leader.wait()) == (1, -9), follower.said
    assert follower.said.splitlines()[-1].startswith("error: process 0 of the 2 of this run has gone without a word")
    assert "Traceback" not in follower.said
    assert status_of(only_run()) == "killed"


def test_an_error_in_one_process_is_the_runs(tmp_path: Path) -> None:
    """The leader says whose, and its log has the traceback."""
    leader, follower = together(tmp_path, 2, *COMMAND, TROUBLE="1:raise")
    assert (leader.wait(), follower.wait()) == (3, 0), leader.said
    assert "error: process 1 of 2: losses.trouble (local/trouble" in leader.said
    assert "failed at step 4: ValueError: the disk is full of eels" in leader.said
    assert follower.said == ""
    assert status()["status"] == "failed"
    assert "in forward" in (only_run() / "run.log").read_text()


@pytest.mark.parametrize(("where", "code"), [("0", 143), ("1", 130)])
def test_a_signal_to_one_process_interrupts_the_run(tmp_path: Path, where: str, code: int) -> None:
    leader, follower = together(tmp_path, 2, *COMMAND, TROUBLE=f"{where}:SIGTERM")
    assert (leader.wait(), follower.wait()) == (code, 0), leader.said
    assert follower.said == ""
    assert (status()["status"], status()["step"]) == ("interrupted", 5)
    assert newest_checkpoint(only_run() / "checkpoints").name == "step-000005"


def test_a_signal_to_a_process_that_is_built_interrupts_the_run(tmp_path: Path) -> None:
    """The leader is built already, and waits for it."""
    leader, follower = together(tmp_path, 2, *COMMAND, TROUBLE="1:SIGTERM:early")
    assert (leader.wait(), follower.wait()) == (130, 0), leader.said
    assert "Traceback" not in leader.said
    assert status()["status"] == "interrupted"


def test_processes_that_cannot_find_each_other_and_what_a_follower_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert main([*COMMAND, "--dry-run"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*COMMAND]) == 1
    assert "WORLD_SIZE=2 says that this is one of several processes; they do not find each other" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_sweep_is_not_one_run_of_several_processes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert main(["sweep", "c.yaml", "seed=0..1", "--plugin", "parts.py", "--out", "study"]) == 2
    assert "start a sweep without it" in capsys.readouterr().err
    assert not Path("study").exists()


def test_a_run_that_diverges_and_one_that_cannot_begin_end_all(tmp_path: Path) -> None:
    diverging = together(tmp_path, 2, *COMMAND, "optimizer.lr=1e300")
    wrong = together(tmp_path, 2, *COMMAND, "guidance.std=-1")
    assert diverging[0].wait() == 4, diverging[0].said
    assert wrong[0].wait() == 2, wrong[0].said
    assert (diverging[1].wait(), diverging[1].said) == (0, "")
    assert (wrong[1].wait(), wrong[1].said) == (2, "")
