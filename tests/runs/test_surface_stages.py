"""Stages of surfaces: the shape first, then its texture. Killed ones, shapes that must stay, and shapes that have vanished."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from ends import leftovers, outcome
from processes import points_of
from safetensors.torch import load_file
from warm_processes import Dfw

from dfw.config.load import load_stages
from dfw.errors import ConfigError
from dfw.runs.checkpoint_folder import newest_checkpoint
from dfw.runs.directory import stage_directories
from dfw.runs.life import status_of
from dfw.runs.stages import compose_stages, run_stages

TWO = """\
name: two
prompt: a red square
device: cpu
guidance: {type: gaussian, means: {a red square: [0.8, 0.3, 0.1]}, resolution: 16}
prompter: plain
cameras: {width: 16, batch_size: 1}
trainer: {steps: 3, preview_width: 16, checkpoint_every: 1, preview_every: 50}
export: {formats: [ply], texture: 64, turntable_frames: 0}
stages:
  geometry:
    geometry: {type: tets, resolution: 8, start_axes: [0.4, 0.4, 0.4]}
    renderer: {type: mesh, shading: {mode: normal}, background: solid}
    losses: {sds: {guidance_scale: 1}}
    export: {formats: []}
  texture:
    start: {stage: geometry}
    geometry: {type: mesh, colours: grey, texture: {type: image, size: 32}}
    renderer: {type: mesh, background: solid}
    losses: {sds: {guidance_scale: 1}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.yaml").write_text(TWO)


def state(stage: Path, which: int = -1) -> dict[str, torch.Tensor]:
    """The geometry of a stage's checkpoint, by default the newest."""
    newest = newest_checkpoint(stage / "checkpoints")
    chosen = newest if which == -1 else stage / "checkpoints" / f"step-{which:06d}"
    return load_file(chosen / "geometry.safetensors")


def test_a_texture_stage_leaves_the_shape_as_it_is_to_the_bit() -> None:
    """And moves the texels to the guidance's colour, from grey."""
    result = run_stages(compose_stages(load_stages("two.yaml", ["stages.texture.trainer.keep_checkpoints=3"])), listeners=[])
    first, last = state(result.directory, 1), state(result.directory)
    assert all(torch.equal(first[name], last[name]) for name in ("vertices", "faces", "uv", "uv_faces"))
    assert len(last["faces"]) > 100
    assert not torch.equal(first["texels"], last["texels"])
    assert float(last["texels"][..., 0].max()) > 0.5 > float(last["texels"][..., 2].min())


def test_a_last_stage_that_is_killed_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    """Killed after its first checkpoint and before its last; the first stage's directory may be gone by then."""
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
        (folder / "two.yaml").write_text(TWO)
    assert Dfw(folders[0], "run", "two.yaml", DIE_AT="0").wait() == 0
    (whole,) = (folders[0] / "runs" / "two").iterdir()
    points = points_of(folders[0] / "runs")
    for share in (0.75, 0.8, 0.85, 0.9):
        shutil.rmtree(folders[1] / "runs", ignore_errors=True)
        assert Dfw(folders[1], "run", "two.yaml", DIE_AT=str(round(share * points))).wait() == -signal.SIGKILL
        (root,) = (folders[1] / "runs" / "two").iterdir()
        stages = [path.name for path in stage_directories(root)]
        if len(stages) == 2 and (root / "2-texture" / "checkpoints" / "step-000001").is_dir():
            break
    assert stages == ["1-geometry", "2-texture"]
    assert (status_of(root / "1-geometry"), status_of(root / "2-texture")) == ("finished", "killed")
    shutil.rmtree(root / "1-geometry" / "checkpoints")
    process = Dfw(folders[1], "run", "--resume", str(root))
    assert process.wait() == 0, process.said
    assert outcome(root / "2-texture") == outcome(whole / "2-texture")
    assert leftovers(root / "2-texture") == []
    assert json.loads((root / "status.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("geometry", ["tets", "tet-field", "mesh", "sdf"])
def test_a_shape_that_its_last_step_has_emptied_is_one_sentence(geometry: str) -> None:
    """One node is inside, and a step of 5 world units takes it out. Whatever takes over, the run of the shape is named."""
    renderer = "volume" if geometry == "sdf" else "mesh"
    options = [
        "stages.geometry.geometry.start_axes=[0.2,0.2,0.2]",
        "stages.geometry.losses={sds: {weight: 0}, opacity: {}}",
        "stages.geometry.optimizer.lr=5",
        "stages.geometry.trainer.steps=1",
        f"stages.texture.geometry={{type: {geometry}}}",
        f"stages.texture.renderer={{type: {renderer}}}",
    ]
    stages = compose_stages(load_stages("two.yaml", options))
    message = (
        r"^geometry \(dreamfw/tets.*\) has no surface to start from: its last step left no triangles; run it again with lower"
    )
    with pytest.raises(ConfigError, match=message):
        run_stages(stages, listeners=[])
    (root,) = Path("runs/two").iterdir()
    assert [status_of(path) for path in stage_directories(root)] == ["finished"]
