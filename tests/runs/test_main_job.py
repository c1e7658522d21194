"""The main job, end to end at a few steps, with the shipped prior: prompt in, files and report out."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from dfw import hookimpl
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import export, render, resume, run

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = [
    "trainer.steps=12",
    "trainer.preview_every=6",
    "trainer.checkpoint_every=5",
    "trainer.preview_width=32",
    "cameras.width=32",
    "cameras.batch_size=2",
    "export.resolution=32",
    "export.faces=600",
    "export.texture=128",
    "export.turntable_frames=4",
    "export.turntable_width=32",
    "device=cpu",
]

pytestmark = pytest.mark.slow


class StopAt:
    """A listener that asks for Ctrl-C after one step."""

    def __init__(self, step):
        self.step = step

    @hookimpl
    def dfw_step_ended(self, step):
        if step.progress.step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    return run(load_config(CONFIGS / "dreamfusion.yaml", [*SHORT, f"output={output}"]), listeners=[])


def test_everything_a_run_promises_is_there(finished):
    assert finished.status == "finished"
    assert set(finished.artifacts) >= {"turntable", "glb", "obj", "ply", "report"}
    for path in finished.artifacts.values():
        assert path.stat().st_size > 0
    for name in ("config.yaml", "resolved.yaml", "manifest.json", "run.log", "metrics.jsonl", "status.json"):
        assert (finished.directory / name).is_file()
    with Image.open(finished.artifacts["turntable"]) as turntable:
        assert (turntable.n_frames, turntable.size) == (4, (32, 32))
    mesh = trimesh.load(finished.artifacts["glb"], force="mesh")
    assert 0 < len(mesh.faces) <= 600
    assert mesh.visual.material.baseColorTexture is not None


def test_numbers_of_every_step_are_kept(finished):
    rows = RunDirectory.open(finished.directory).read_metrics()
    assert [row["step"] for row in rows] == list(range(12))
    assert all(row["losses"]["sds"] > 0 for row in rows)
    assert all(set(row["seconds"]) == {"render", "guidance", "backward", "optimizer"} for row in rows)
    assert all(0 < row["opacity"] < 1 for row in rows)


def test_an_interrupted_nerf_resumes_to_the_same_bits(finished, tmp_path):
    config = load_config(CONFIGS / "dreamfusion.yaml", [*SHORT, f"output={tmp_path}", "export.formats=[]"])
    stopped = run(config, listeners=[StopAt(7)])
    assert (stopped.status, json.loads((stopped.directory / "status.json").read_text())["step"]) == ("interrupted", 8)
    resumed = resume(stopped.directory, listeners=[])
    assert resumed.status == "finished"
    for part in ("geometry", "renderer", "optimizer", "streams"):
        ours = resumed.directory / "checkpoints" / "step-000012" / f"{part}.safetensors"
        theirs = finished.directory / "checkpoints" / "step-000012" / f"{part}.safetensors"
        assert ours.read_bytes() == theirs.read_bytes()


def test_export_and_render_open_a_finished_run_and_overwrite_nothing(finished):
    before = {path: path.read_bytes() for path in finished.directory.rglob("*") if path.is_file()}
    made = export(finished.directory, compose(load_config(CONFIGS / "dreamfusion.yaml", [*SHORT, "export.formats=[ply]"])))
    turned = render(finished.directory, width=16, frames=2)
    assert trimesh.load(made["ply"], force="mesh").faces.shape[0] > 0
    assert turned not in before
    assert all(path.read_bytes() == content for path, content in before.items())


def test_unknown_words_end_the_run_before_anything_is_written(tmp_path):
    overrides = ["prompt=a red zeppelin", f"output={tmp_path}"]
    command = [sys.executable, "-m", "dfw", "run", str(CONFIGS / "dreamfusion.yaml"), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "zeppelin" in done.stderr
    assert "mushroom" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
