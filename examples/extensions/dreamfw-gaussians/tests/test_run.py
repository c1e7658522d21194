"""Whole runs under the unchanged trainer: from YAML to files, interrupted and resumed, and to the picture asked for."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dfw import ConfigError, hookimpl
from dfw.build import compose
from dfw.cameras import orbit
from dfw.config import load_config
from dfw.runner import export, make_trainer, resume, run
from dfw.runs import RunDirectory

CONFIG = Path(__file__).parents[1] / "configs" / "gaussians.yaml"
SMALL = [
    *("geometry.capacity=300", "geometry.initial=100", "geometry.relocation.every=3", "geometry.relocation.start=0"),
    *("cameras.width=16", "cameras.batch_size=2", "trainer.steps=12", "trainer.preview_every=12", "trainer.preview_width=16"),
    *("export.turntable_frames=2", "export.turntable_width=16", "device=cpu"),
]
RED = [0.8, 0.3, 0.1]
CLOSED_FORM = [
    "prompt=a red ball",
    "guidance={type: dreamfw/gaussian, means: {a red ball: [0.8, 0.3, 0.1]}, resolution: 16}",
    "views.mode=none",
]


def small(tmp_path, *more):
    return load_config(CONFIG, [*SMALL, *CLOSED_FORM, f"output={tmp_path}", *more])


class InterruptAt:
    """A listener that presses Ctrl-C during one step."""

    def __init__(self, step):
        self.step = step

    @hookimpl
    def dfw_step_ended(self, step):
        if step.progress.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def checkpoint(result, step=12):
    return (result.directory / "checkpoints" / f"step-{step:06d}" / "geometry.safetensors").read_bytes()


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path):
    """Interrupted right before a relocation, and again in the middle between two."""
    whole = run(small(tmp_path), listeners=[])
    assert whole.status == "finished"
    stopped = run(small(tmp_path), listeners=[InterruptAt(5)])
    assert stopped.status == "interrupted"
    assert resume(stopped.directory, listeners=[InterruptAt(7)]).status == "interrupted"
    assert resume(stopped.directory, listeners=[]).status == "finished"
    assert checkpoint(stopped) == checkpoint(whole)
    assert load_file(whole.directory / "checkpoints" / "step-000012" / "geometry.safetensors")["live"] == 173


def test_a_run_leaves_turntable_and_splats(tmp_path):
    result = run(small(tmp_path, "trainer.steps=2"), listeners=[])
    assert set(result.artifacts) == {"turntable", "gaussians", "report"}
    assert result.artifacts["gaussians"].read_bytes().startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 100\n")
    assert 'href="export/gaussians.ply"' in result.artifacts["report"].read_text()
    assert export(result.directory)["gaussians"] == result.directory / "export-2" / "gaussians.ply"
    manifest = RunDirectory.open(result.directory).read_json("manifest.json")
    assert manifest["components"]["renderer"]["distribution"] == "dreamfw-gaussians"


def test_every_pixel_arrives_at_the_mean_of_the_prompt(tmp_path):
    """The closed-form guidance knows one colour; on a background of another, the Gaussians must cover every pixel with it."""
    options = ["renderer.background={type: solid, colour: [0, 0, 1]}", "geometry.capacity=600"]
    options += ["geometry.initial=600", "geometry.relocation.every=50", "cameras.batch_size=1", "losses.entropy.weight=0"]
    options += ["losses.opacity.weight=0", "losses.sds.guidance_scale=1", "trainer.watch_from=1", "geometry.radius=0.9"]
    options += ["optimizer.groups={geometry.opacities: {lr: 0.2}, geometry.colours: {lr: 0.05}}", "trainer.steps=100"]
    config = small(tmp_path, *options)
    trainer = make_trainer(config, compose(config).build())
    records = []
    trainer.train(lambda: False, records.append)
    first, last = (sum(r.losses["sds"] for r in part) for part in (records[:10], records[-10:]))
    assert last < 0.3 * first
    with torch.no_grad():
        cameras = orbit(2, 10.0, 3.0, 40.0, 16, 16)
        middle = trainer.renderer.eval()(trainer.geometry, cameras).colour[:, 4:12, 4:12].mean((0, 1, 2))
    torch.testing.assert_close(middle, torch.tensor(RED), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("renderer={type: dreamfw/volume}", "density-field"),
        ("geometry={type: dreamfw/nerf}", "dreamfw-gaussians/splatting .*needs gaussians"),
        ("losses.normals={type: dreamfw/orientation}", "normals"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_made(tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        compose(small(tmp_path, override))
    assert not list(tmp_path.iterdir())


def test_groups_of_the_shipped_configuration_are_the_geometrys(tmp_path):
    config = small(tmp_path)
    trainer = make_trainer(config, compose(config).build())
    assert {group["name"] for group in trainer.optimizer.param_groups} == set(config.optimizer.groups)
