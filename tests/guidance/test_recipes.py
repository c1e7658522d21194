"""The recipes of several stages, and those for Stable Diffusion: their numbers, and every stage of each at a tiny size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
from shipped import NEEDS
from tiny_diffusion import save_tiny_model

from dfw import Progress, value_at
from dfw.compose import Composition, compose
from dfw.config.load import load_config, load_stages, shipped_names, to_yaml
from dfw.config.yaml_text import read_yaml
from dfw.plugins.registry import registry
from dfw.runs.directory import RunDirectory
from dfw.runs.optimizer import learning_rate_of
from dfw.runs.runner import run
from dfw.runs.stages import run_stages
from dfw_renderers.physical import harmonics

CONFIGS = Path(__file__).parents[2] / "configs"
KIND = "dreamfw/stable-diffusion"
PROMPT = "a red car"  # of words that the tiny model and the shipped one know


def composed(name: str) -> dict[str, Composition]:
    """The stages of a shipped configuration."""
    return {
        stage: compose(one.config, registry(), one.provenance) for stage, one in load_stages(CONFIGS / f"{name}.yaml").items()
    }


def options(composition: Composition, *path: str) -> Any:
    """What a component is configured with."""
    return composition.chosen[path].config


def test_prolificdreamer_changes_resolution_and_timesteps_at_step_5000_and_thins_out_at_10000() -> None:
    composition = composed("prolificdreamer-sd")["coarse"]
    config: Any = composition.config
    vsd: Any
    cameras: Any
    vsd, cameras = (composition.chosen[path].config for path in (("losses", "vsd"), ("cameras",)))
    assert (vsd.guidance_scale, vsd.adapter_lr, config.trainer.steps) == (7.5, 1e-4, 25_000)

    def at(step: int) -> tuple[float, ...]:
        now = Progress(step, 25_000)
        schedules = (cameras.width, vsd.t_max, config.losses["entropy"].weight)
        return tuple(value_at(schedule, now) for schedule in schedules)

    assert [at(step) for step in (4_999, 5_000, 9_999, 10_000)] == [(64, 0.98, 0), (512, 0.5, 0), (512, 0.5, 0), (512, 0.5, 693)]
    assert (cameras.distance, cameras.fov, cameras.elevation) == ((1.0, 1.5), (40, 70), (-10, 45))
    groups = ("geometry.encoding", "geometry.network", "renderer.background")
    assert [learning_rate_of(config.optimizer, group) for group in groups] == [0.01, 0.001, 0.001]
    prompter, geometry = (composition.chosen[path].config for path in (("prompter",), ("geometry",)))
    assert prompter.front == 2 * 30  # type: ignore[attr-defined]
    assert (geometry.radius, geometry.density_scale, geometry.coarse_to_fine) == (1, 1, None)  # type: ignore[attr-defined]
    assert (cameras.position_jitter, cameras.look_at_jitter, cameras.up_jitter) == (0, 0, 0)


def test_prolificdreamers_later_stages_have_the_numbers_of_their_recipes() -> None:
    """threestudio's prolificdreamer-geometry.yaml and -texture.yaml at commit 28d9d80, in our words."""
    stages = composed("prolificdreamer-sd")
    assert list(stages) == ["coarse", "geometry", "texture"]
    shape, texture = stages["geometry"], stages["texture"]
    sds, vsd = options(shape, "losses", "sds"), options(texture, "losses", "vsd")
    assert (sds.guidance_scale, sds.t_min, sds.weighting, shape.config.trainer.steps) == (101, 0.02, "sigma2", 15_000)
    assert (vsd.guidance_scale, vsd.adapter_lr, texture.config.trainer.steps) == (7.5, 1e-4, 30_000)
    for loss in (sds, vsd):
        assert [value_at(loss.t_max, Progress(step, 15_000)) for step in (4_999, 5_000)] == [0.98, 0.5]
    assert (options(shape, "geometry").radius, options(shape, "geometry").resolution) == (1, 128)
    assert (options(shape, "renderer").shading.mode, shape.config.losses["smooth"].weight) == ("normal", 10_000)
    assert (shape.config.optimizer.type, shape.config.optimizer.lr) == ("adam", 0.005)
    assert options(texture, "geometry").vertices == "fixed"
    groups = ("geometry.encoding", "geometry.network", "renderer.background")
    assert [learning_rate_of(texture.config.optimizer, group) for group in groups] == [0.01, 0.001, 0.001]
    assert [options(one, "cameras").width for one in (shape, texture)] == [512, 512]
    assert [options(one, "prompter").front for one in stages.values()] == [60, 90, 60]


def test_fantasia3d_has_the_numbers_of_its_recipe() -> None:
    """threestudio's fantasia3d.yaml and fantasia3d-texture.yaml at commit 28d9d80, in our words."""
    stages = composed("fantasia3d-sd")
    shape, paint = stages["geometry"], stages["appearance"]
    weights = [
        [value_at(shape.config.losses[name].weight, Progress(step, 10_000)) for name in ("early", "sds")] for step in (999, 1000)
    ]
    assert weights == [[1, 0], [0, 1]]
    assert [shape.config.losses[name].of for name in ("early", "sds")] == ["normal-mask", "colour"]
    for loss in (options(shape, "losses", "early"), options(shape, "losses", "sds"), options(paint, "losses", "sds")):
        assert (loss.guidance_scale, loss.t_min, loss.t_max) == (101, 0.02, 0.5)
    assert (shape.config.optimizer.lr, shape.config.trainer.steps) == (0.001, 10_000)
    assert (paint.config.optimizer.lr, paint.config.trainer.steps) == (0.01, 5_000)
    assert (options(paint, "geometry").vertices, options(paint, "geometry").texture.pbr) == ("fixed", True)
    for stage in stages.values():
        cameras = options(stage, "cameras")
        assert (cameras.width, cameras.batch_size, cameras.distance, cameras.fov) == (512, 1, (3, 3), (25, 45))


def test_the_environment_of_fantasia3d_is_the_published_one_with_z_up() -> None:
    """Radiance along any direction is that of Ramamoorthi and Hanrahan's Eucalyptus Grove, where y is up, to their two digits."""
    published = torch.tensor(
        [
            [0.38, 0.43, 0.45], [0.29, 0.36, 0.41], [0.04, 0.03, 0.01], [-0.10, -0.10, -0.09], [-0.06, -0.06, -0.04],
            [0.01, -0.01, -0.05], [-0.09, -0.13, -0.15], [-0.06, -0.05, -0.04], [0.02, 0.00, -0.05],
        ]
    )  # fmt: skip
    ours = torch.tensor(options(composed("fantasia3d-sd")["appearance"], "renderer").shading.environment)
    direction = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    turned = direction[:, [1, 2, 0]]  # their x, y, z are our y, z, x
    torch.testing.assert_close(harmonics(direction, 9) @ ours, harmonics(turned, 9) @ published, rtol=0, atol=2e-4)


def test_magic3d_and_textmesh_have_the_numbers_of_their_recipes() -> None:
    """threestudio's magic3d-coarse-sd.yaml, magic3d-refine-sd.yaml and textmesh-if.yaml at commit 28d9d80, in our words."""
    coarse, refine = composed("magic3d-sd").values()
    assert (options(coarse, "losses", "sds").weighting, options(refine, "losses", "sds").weighting) == ("one", "sigma2")
    assert (options(coarse, "geometry").coarse_to_fine, coarse.config.trainer.steps) == (None, 10_000)
    assert (options(refine, "losses", "sds").t_max, refine.config.losses["smooth"].weight) == (0.5, 10_000)
    assert (options(refine, "cameras").width, options(refine, "cameras").fov) == (512, (30, 45))
    assert (refine.config.trainer.steps, options(refine, "renderer").shading.start) == (5_000, 0)
    assert not {name for path in refine.chosen if path[0] == "losses" for name in path} & {"orientation", "opacity"}
    (textmesh,) = composed("textmesh-sd").values()
    geometry = options(textmesh, "geometry")
    assert (geometry.radius, geometry.sphere, geometry.density, textmesh.config.losses["eikonal"].weight) == (
        2,
        0.5,
        "neus",
        1000,
    )
    assert geometry.encoding.base * 1.381912879967776**15 == pytest.approx(geometry.encoding.finest)
    groups = ("geometry.encoding", "geometry.network", "geometry.sharpness", "renderer.background")
    assert [learning_rate_of(textmesh.config.optimizer, group) for group in groups] == [0.01, 0.001, 0.001, 0.001]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def shrunk(tree: Any, key: str = "") -> Any:
    """A configuration of the same components that takes seconds: small grids and pictures, and ramps by steps end at step 1."""
    if isinstance(tree, dict):
        if "log2_size" in tree:
            return {"type": "hash-grid", "levels": 2, "features": 2, "log2_size": 8, "base": 4, "finest": 8}
        if tree.get("unit") == "step":
            return tree | {"start": 1, "end": 1}
        return {name: shrunk(value, name) for name, value in tree.items()}
    small = {
        "start_levels": 1,
        "samples": 16,
        "resolution": 16,
        "texture": 64,
        "faces": 400,
        "steps": 2,
        "preview_width": 16,
        "turntable_width": 16,
    }
    return small[key] if key in small and isinstance(tree, int) else tree


def recipes() -> list[str]:
    """The shipped configurations of several stages, and those on a larger model, with Stable Diffusion 1.x or 2.x alone."""
    runs = {name: [one.config for one in load_stages(name, NEEDS.get(name, ())).values()] for name in shipped_names()}
    alone = {name: found for name, found in runs.items() if all(one.guidance and one.guidance.type == KIND for one in found)}
    models = {name: {one.guidance.options.get("model") for one in found if one.guidance} for name, found in alone.items()}
    return [name for name, found in alone.items() if len(found) > 1 or "embedded" not in models[name]]


@pytest.mark.parametrize("name", recipes())
def test_every_stage_takes_two_steps_on_a_small_model_of_the_same_class(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first stage to the last one's GLB; both ends of each ramp that counts steps take part."""
    monkeypatch.chdir(tmp_path)
    for file in ("teapot.glb", "boxes.glb"):
        trimesh.creation.box((1, 0.8, 0.6)).export(file)
    stages = {}
    for stage, loaded in load_stages(name, [*NEEDS.get(name, ()), f"prompt={PROMPT}", "device=cpu", "precision=fp32"]).items():
        tree = shrunk(read_yaml(to_yaml(loaded.config))[0])
        if tree["guidance"]["model"] != "embedded":
            tree["guidance"] |= {"model": str(tiny)}
            tree["guidance"].pop("autoencoder", None)  # the small model has its own
            tree["prompter"] |= {"angles": 1} if "angles" in tree["prompter"] else {}  # and reads ten words at most
        tree["cameras"] |= {"width": 16, "batch_size": 1}
        stages[stage] = compose(load_config(tree))
    result = run_stages(stages, listeners=[]) if list(stages) != [""] else run(stages[""].config, listeners=[])
    assert result.status == "finished"
    assert trimesh.load(result.artifacts["glb"], force="mesh").area > 0
    asked = [row["losses"] for row in RunDirectory.open(result.directory).read_metrics()]
    assert len(asked) == 2
    assert all(math.isfinite(value) for row in asked for value in row.values())
