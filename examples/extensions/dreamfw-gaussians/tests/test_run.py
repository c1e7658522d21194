"""Whole runs under the unchanged trainer: from YAML to files, interrupted and resumed, and to the picture asked for."""

import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
import yaml
from clouds import camera
from dreamfw_gaussians.geometry import Gaussians
from dreamfw_gaussians.renderer import Splatting
from safetensors.torch import load_file

CONFIG = Path(__file__).parents[1] / "configs" / "gaussians.yaml"
SMALL = [
    *("geometry.capacity=300", "geometry.initial=100", "geometry.relocation.every=3", "geometry.relocation.start=0"),
    *("cameras.width=16", "cameras.batch_size=2", "trainer.steps=12", "trainer.preview_every=12", "trainer.preview_width=16"),
    *("export.turntable_frames=2", "export.turntable_width=16", "export.formats=[glb]", "export.resolution=24"),
    *("export.texture=64", "export.faces=300", "device=cpu"),
]
RED = [0.8, 0.3, 0.1]
CLOSED_FORM = [
    "prompt=a red ball",
    "guidance={type: dreamfw/gaussian, means: {a red ball: [0.8, 0.3, 0.1]}, resolution: 16}",
    "prompter=plain",
]


INTERRUPT = """
import os, signal
from dfw import hookimpl

@hookimpl
def dfw_step_ended(step):
    if str(step.progress.step) == os.environ.get("INTERRUPT_AT"):
        signal.raise_signal(signal.SIGINT)
"""
"""For `--plugin`: a listener that presses Ctrl-C during one step."""


def dfw(*arguments):
    """The command `dfw` in this process: its exit code."""
    (script,) = entry_points(group="console_scripts", name="dfw")
    return script.load()([str(argument) for argument in arguments])


def small(folder, *more):
    """Arguments of a run into `folder`."""
    return "run", CONFIG, *SMALL, *CLOSED_FORM, f"output={folder}", *more


def only_run(folder):
    (directory,) = folder.glob("*/*")
    return directory


def checkpoint(run, step=12):
    return run / "checkpoints" / f"step-{step:06d}" / "geometry.safetensors"


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
    """Interrupted right before a relocation, and again in the middle between two."""
    whole, parts, plugin = tmp_path / "whole", tmp_path / "parts", tmp_path / "interrupt.py"
    plugin.write_text(INTERRUPT)
    assert dfw(*small(whole)) == 0
    monkeypatch.setenv("INTERRUPT_AT", "5")
    assert dfw(*small(parts), "--plugin", plugin) == 130
    monkeypatch.setenv("INTERRUPT_AT", "7")
    assert dfw("run", "--resume", only_run(parts), "--plugin", plugin) == 130
    monkeypatch.delenv("INTERRUPT_AT")
    assert dfw("run", "--resume", only_run(parts)) == 0
    steps = [json.loads(line)["step"] for line in (only_run(parts) / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(12))
    assert checkpoint(only_run(parts)).read_bytes() == checkpoint(only_run(whole)).read_bytes()
    assert load_file(checkpoint(only_run(whole)))["live"] == 173


def test_a_run_leaves_turntable_mesh_and_splats(tmp_path):
    assert dfw(*small(tmp_path, "trainer.steps=2")) == 0
    run = only_run(tmp_path)
    assert {path.name for path in (run / "export").iterdir()} == {"turntable.webp", "gaussians.ply", "object.glb"}
    splats = (run / "export" / "gaussians.ply").read_bytes()
    assert splats.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 100\n")
    assert 'href="export/gaussians.ply"' in (run / "report.html").read_text()
    assert dfw("export", run) == 0
    assert (run / "export-2" / "gaussians.ply").read_bytes() == splats
    assert (run / "export-2" / "object.glb").is_file()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["components"]["renderer"]["distribution"] == "dreamfw-gaussians"


def test_dreamgaussian_makes_a_mesh_of_the_splats_and_repaints_it(tmp_path):
    """Both stages of the shipped configuration, with the closed-form guidance: the texture comes nearer to its colour."""
    small = [one for one in SMALL if not one.startswith(("geometry.", "cameras."))]
    first = [f"stages.splats.{one}" for one in ("geometry.capacity=300", "geometry.initial=200", "cameras.batch_size=2")]
    first += [f"stages.texture.{one}" for one in ("geometry.texture={type: image, size: 32}", "geometry.colours=grey")]
    config = CONFIG.with_name("dreamgaussian.yaml")
    options = [*small, *first, *CLOSED_FORM, "cameras.width=16", "trainer.steps=8", "stages.texture.optimizer.lr=0.05"]
    assert dfw("run", config, *options, "stages.texture.losses.repaint.guidance_scale=1", f"output={tmp_path}") == 0
    (run,) = tmp_path.glob("*/*/2-texture")
    assert (run / "export" / "object.glb").is_file()
    texels = load_file(run / "checkpoints" / "step-000008" / "geometry.safetensors")["texels"]
    moved = (texels - 0.5).abs().sum(-1) > 0.01  # texels that no view meets stay grey
    assert moved.float().mean() > 0.2
    towards = (texels[moved] - 0.5).mean(0)
    assert (towards * (torch.tensor(RED) - 0.5) > 0).all()


def test_every_pixel_arrives_at_the_mean_of_the_prompt(tmp_path):
    """The closed-form guidance knows one colour; on a background of another, the Gaussians must cover every pixel with it."""
    options = ["renderer.background={type: solid, colour: [0, 0, 1]}", "geometry.capacity=600", "trainer.preview_every=100"]
    options += ["geometry.initial=600", "geometry.relocation.every=50", "cameras.batch_size=1", "losses.entropy.weight=0"]
    options += ["losses.opacity.weight=0", "losses.sds.guidance_scale=1", "trainer.watch_from=1", "geometry.radius=0.9"]
    options += ["optimizer.groups={geometry.opacities: {lr: 0.2}, geometry.colours: {lr: 0.05}}", "trainer.steps=100"]
    assert dfw(*small(tmp_path, *options)) == 0
    run = only_run(tmp_path)
    sds = [json.loads(line)["losses"]["sds"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(sds) == 100
    assert sum(sds[-10:]) < 0.3 * sum(sds[:10])
    scene = Gaussians(Gaussians.Config(capacity=600, initial=600))
    scene.load_state_dict(load_file(checkpoint(run, 100)))
    look = Splatting(Splatting.Config(background={"type": "solid", "colour": (0, 0, 1)})).eval()
    with torch.no_grad():
        cameras = camera(0.0, 180.0, elevation=10.0, height=16, width=16, dtype=torch.float32)
        middle = look(scene, cameras).colour[:, 4:12, 4:12].mean((0, 1, 2))
    torch.testing.assert_close(middle, torch.tensor(RED), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("renderer={type: dreamfw/volume}", "density-field"),
        ("geometry={type: dreamfw/nerf}", "dreamfw-gaussians/splatting .*needs gaussians"),
        ("losses.normals={type: dreamfw/orientation}", "normals"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_made(tmp_path, capsys, override, words):
    assert dfw(*small(tmp_path, override)) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_groups_of_the_shipped_configuration_are_the_geometrys(tmp_path, capsys):
    assert dfw(*small(tmp_path, "--dry-run")) == 0
    named = yaml.safe_load(capsys.readouterr().out)["optimizer"]["groups"]
    there = Gaussians(Gaussians.Config()).parameter_groups() | Splatting(Splatting.Config()).parameter_groups()
    assert set(named) == set(there)
