"""Edits as runs: they start from a finished one, and go on when it is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import dfw
from dfw import hookimpl

RED, BLUE = [0.8, 0.2, 0.1], [0.1, 0.2, 0.8]
PIXELS = {
    "device": "cpu",
    "prompt": "a red square",
    "geometry": {"type": "image", "width": 8, "height": 8},
    "renderer": "plane",
    "guidance": {"type": "gaussian", "means": {"a red square": RED, "a blue square": BLUE}, "std": 0.3, "resolution": 8},
    "losses": {"sds": {"guidance_scale": 1}},
    "prompter": "plain",
    "cameras": {"width": 8, "batch_size": 1},
    "optimizer": {"lr": 0.02},
    "trainer": {"steps": 200, "preview_every": 500, "preview_width": 8},
    "export": {"formats": [], "turntable_frames": 0},
}


class StopAt:
    """Presses Ctrl-C during one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def dfw_step_ended(self, step) -> None:
        import signal

        if step.progress.step == self.step:
            signal.raise_signal(signal.SIGINT)


def edit(source: Path, kind: str, folder: Path, steps: int = 150, listeners=()):
    losses = {"edit": {"type": f"dreamfw-editing/{kind}", "source_prompt": "a red square", "guidance_scale": 1}}
    changes = PIXELS | {"losses": losses, "prompt": "a blue square", "start": {"run": str(source)}, "output": str(folder)}
    return dfw.run(changes | {"trainer": {"steps": steps, "preview_every": 500, "preview_width": 8}}, listeners=list(listeners))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dfw.run(PIXELS, listeners=[], output=str(tmp_path_factory.mktemp("source"))).directory


def colour(run: dfw.Run) -> torch.Tensor:
    return run.scene.render(width=8).colours.mean((0, 1, 2))


@pytest.mark.parametrize("kind", ["dds", "collaborative"])
def test_red_becomes_blue(kind: str, source: Path, tmp_path: Path):
    """The only zero of the difference of two pulls: the source moved by the difference of the two means."""
    before = colour(dfw.open(source))
    found = colour(edit(source, kind, tmp_path))
    torch.testing.assert_close(found, before + torch.tensor(BLUE) - torch.tensor(RED), atol=0.05, rtol=0)


def test_an_edit_goes_on_to_the_same_bits_when_the_source_is_gone(source: Path, tmp_path: Path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    whole = edit(copy, "pds", tmp_path, steps=20)
    stopped = edit(copy, "pds", tmp_path, steps=20, listeners=[StopAt(7)])
    shutil.rmtree(copy)
    assert stopped.status == "interrupted"
    stopped.resume(listeners=[])
    file = Path("checkpoints") / "step-000020" / "geometry.safetensors"
    assert (stopped.directory / file).read_bytes() == (whole.directory / file).read_bytes()
