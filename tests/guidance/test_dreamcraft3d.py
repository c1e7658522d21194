"""DreamCraft3D: its numbers, and all stages on small models of the same classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from shipped import NEEDS
from tiny_deep_floyd import save_tiny_deep_floyd
from tiny_diffusion import save_tiny_model
from tiny_zero123 import save_tiny_zero123

from dfw import Progress
from dfw.compose import Composition, compose
from dfw.config.load import load_config, load_stages, to_yaml
from dfw.config.yaml_text import read_yaml
from dfw.plugins.registry import registry
from dfw.runs.optimizer import learning_rate_of
from dfw.runs.stages import run_stages
from dfw_cameras.random import Random

GRID = {"type": "hash-grid", "levels": 2, "features": 2, "log2_size": 8, "base": 4, "finest": 8}
STAGES = ["coarse", "surface", "geometry", "texture"]


def composed(*more: str, name: str = "dreamcraft3d-sd") -> dict[str, Composition]:
    """All stages."""
    loaded = load_stages(name, [*NEEDS[name], *more])
    return {stage: compose(one.config, registry(), one.provenance) for stage, one in loaded.items()}


def settings(stage: Composition) -> dict[Any, Any]:
    """Place -> its component's configuration."""
    return {path: part.config for path, part in stage.chosen.items()}


def begun(value: Any) -> Any:
    """The same settings, with ramps that stay where they begin: a run of two steps is shorter than they are."""
    if isinstance(value, dict):
        return value["from"] if value.get("unit") == "step" else {key: begun(one) for key, one in value.items()}
    return [begun(one) for one in value] if isinstance(value, list) else value


def test_it_has_the_numbers_of_its_recipe() -> None:
    """deepseek-ai/DreamCraft3D's four files at commit 5829ef1, in our words."""
    stages = composed()
    assert list(stages) == STAGES
    assert all(one.config.trainer.steps == 5000 for one in stages.values())
    at = {name: settings(one) for name, one in stages.items()}
    weights = {name: {loss: one.weight for loss, one in stage.config.losses.items()} for name, stage in stages.items()}
    shared = {"words": 0.1, "sides": 0.1, "picture": 1000, "mask": 100, "depth": 0.1}
    assert weights["surface"] == {
        **shared, "orientation": 10, "orientation-picture": 10, "opacity": 0.1, "entropy": 0.07, "entropy-picture": 0.07
    }  # fmt: skip
    assert {name: weights["coarse"][name] for name in shared} == shared
    assert 0.1 * math.log(2) == pytest.approx(0.07, rel=0.01), "entropy is in bits"
    assert weights["texture"] == {"words": 0.01, "picture": 1000}
    geometry = weights["geometry"]
    assert (geometry["words"], geometry["shape"], geometry["sides"]) == (0.025, 0.075, 0.1), "a fourth of the steps shows colours"
    assert (geometry["picture"], geometry["mask"]) == (250, 25)
    words, sides = (at["surface"]["losses", name] for name in ("words", "sides"))
    assert [(one.guidance_scale, one.t_min, one.t_max) for one in (words, sides)] == [(21, 0.2, 0.5), (5, 0.2, 0.5)]
    colours = at["texture"]["losses", "words"]
    assert (colours.guidance_scale, colours.adapter_lr, colours.prior_lr, colours.cycle, colours.share) == (
        2,
        1e-5,
        1e-5,
        1000,
        0.2,
    )
    for stage in STAGES[:3]:
        zero123, reference = at[stage]["guidances", "picture"], at[stage]["view_sets", "reference"]
        assert (reference.distance, reference.fov, reference.elevation) == (3.8, 20, 0)
        keys = ("image", "mask", "share", "azimuth", "elevation", "distance")
        assert [getattr(zero123, key) for key in keys] == [getattr(reference, key) for key in keys]
    assert list(stages["texture"].config.guidances) == ["words"], "the last stage loads no model that nothing asks"
    groups = ("geometry.encoding", "geometry.network", "geometry.sharpness")
    assert [learning_rate_of(stages["surface"].config.optimizer, group) for group in groups] == [0.01, 0.001, 0.001]


@pytest.mark.parametrize(("name", "opened"), [("dreamcraft3d-sd", (-10, 45)), ("dreamcraft3d", (-12, 75))])
def test_the_first_views_stand_where_the_picture_was_taken(name: str, opened: tuple[float, float]) -> None:
    """Cameras start at the picture's pose, and reach all sides before the stage ends."""
    pose = ("view_sets.reference.azimuth=40", "view_sets.reference.elevation=10", f"image={NEEDS[name][0].partition('=')[2]}")
    stage = composed(*pose, name=name)["coarse"]
    config: Any = stage.chosen["cameras",].config
    cameras = Random(config)
    total = stage.config.trainer.steps

    def angles(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = [cameras.sample(Progress(step, total), torch.Generator().manual_seed(seed)).cameras for seed in range(60)]
        return torch.cat([one.azimuth for one in drawn]), torch.cat([one.elevation for one in drawn])

    azimuth, elevation = angles(0)
    torch.testing.assert_close(azimuth, torch.full_like(azimuth, 40.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(elevation, torch.full_like(elevation, 10.0), atol=1e-3, rtol=0)
    azimuth, elevation = angles(total // 2)
    assert float(azimuth.min()) < -150
    assert float(azimuth.max()) > 150
    assert opened[0] - 1e-3 <= float(elevation.min()) < opened[0] + 10
    assert opened[1] - 10 < float(elevation.max()) <= opened[1] + 1e-3


def test_a_picture_and_words_become_a_mesh_on_small_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of each stage, with every loss. The last one keeps the triangles, and moves their colours."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[12:52, 16:48] = (200, 30, 30, 255)
    Image.fromarray(pixels).save("teddy.png")
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) + 90, (64, 1))).save("teddy-depth.png")
    floyd, tiny = save_tiny_deep_floyd(tmp_path / "words"), save_tiny_model(tmp_path / "colours")
    picture = save_tiny_zero123(tmp_path / "picture")
    stages = {}
    for stage, loaded in load_stages("dreamcraft3d-sd", [*NEEDS["dreamcraft3d-sd"], "prompt=a red car", "device=cpu"]).items():
        tree = begun(read_yaml(to_yaml(loaded.config))[0])
        tree["precision"] = "fp32"
        tree["guidances"]["words"] |= {"model": str(tiny if stage == "texture" else floyd), "variant": None}
        if "picture" in tree["guidances"]:
            tree["guidances"]["picture"] |= {"model": str(picture), "pose": "elevation"}
        tree["cameras"] |= {"width": 16}
        tree["view_sets"]["reference"] |= {"width": 16}
        tree["trainer"] |= {"steps": 2, "preview_width": 16}
        tree["export"] |= {"resolution": 16, "texture": 64, "faces": 400}
        if stage in ("coarse", "surface"):
            tree["geometry"]["encoding"], tree["renderer"]["samples"] = GRID, 16
        elif stage == "geometry":
            tree["geometry"] |= {"resolution": 16, "material": {"encoding": GRID}}
        else:
            tree["geometry"]["texture"]["encoding"] = GRID
            tree["losses"]["words"] |= {"cycle": 2, "share": 0.5, "repaint_steps": 2}  # a lesson, and a step of the scene
        stages[stage] = compose(load_config(tree))
    result = run_stages(stages, listeners=[])
    assert result.status == "finished"
    assert trimesh.load(result.artifacts["glb"], force="mesh").area > 0
