"""Magic123: its numbers, and both stages with two priors on small models of the same classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from shipped import NEEDS
from tiny_diffusion import save_tiny_model
from tiny_zero123 import save_tiny_zero123

from dfw.compose import Composition, compose
from dfw.config.load import load_config, load_stages, to_yaml
from dfw.config.yaml_text import read_yaml
from dfw.plugins.registry import registry
from dfw.runs.directory import RunDirectory, stage_directories
from dfw.runs.optimizer import learning_rate_of
from dfw.runs.stages import run_stages

GRID = {"type": "hash-grid", "levels": 2, "features": 2, "log2_size": 8, "base": 4, "finest": 8}


def composed() -> dict[str, Composition]:
    """Both stages."""
    loaded = load_stages("magic123-sd", NEEDS["magic123-sd"])
    return {stage: compose(one.config, registry(), one.provenance) for stage, one in loaded.items()}


def test_it_has_the_numbers_of_its_recipe() -> None:
    """threestudio's magic123-coarse-sd.yaml and magic123-refine-sd.yaml at commit 11cdb44, in our words."""
    stages = composed()
    assert list(stages) == ["coarse", "refine"]
    weights = {name: {loss: one.weight for loss, one in stage.config.losses.items()} for name, stage in stages.items()}
    assert weights["coarse"] == {"words": 1, "sides": 40, "picture": 10_000, "mask": 1000}
    assert weights["refine"] == {"words": 0.001, "sides": 0.01, "picture": 10, "mask": 1, "smooth": 100, "even": 100}
    for name, stage in stages.items():
        at: Any = {path: part.config for path, part in stage.chosen.items()}
        words, sides = at["losses", "words"], at["losses", "sides"]
        assert [(one.guidance_scale, one.t_min, one.t_max) for one in (words, sides)] == [(101, 0.2, 0.6), (5, 0.2, 0.6)]
        cameras, zero123, reference = at["cameras",], at["guidances", "picture"], at["view_sets", "reference"]
        assert (cameras.distance, cameras.fov, cameras.elevation, cameras.batch_size) == ((2.5, 2.5), (40, 40), (-45, 45), 1)
        assert cameras.width == {"coarse": 256, "refine": 512}[name]
        shared = ("image", "mask", "share", "azimuth", "elevation", "distance")
        assert [getattr(zero123, key) for key in shared] == [getattr(reference, key) for key in shared]
        assert stage.config.trainer.steps == 10_000
    groups = ("geometry.encoding", "geometry.network")
    assert [learning_rate_of(stages["coarse"].config.optimizer, group) for group in groups] == [0.01, 0.001]


def test_a_picture_and_words_become_a_mesh_on_small_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of each stage. Every loss takes part, and both priors move the scene."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[12:52, 16:48] = (200, 30, 30, 255)
    Image.fromarray(pixels).save("teddy.png")
    models = {"words": save_tiny_model(tmp_path / "words"), "picture": save_tiny_zero123(tmp_path / "picture")}
    stages = {}
    for stage, loaded in load_stages(
        "magic123-sd", ["image=teddy.png", "prompt=a red car", "device=cpu", "precision=fp32"]
    ).items():
        tree = read_yaml(to_yaml(loaded.config))[0]
        for name, model in models.items():
            tree["guidances"][name]["model"] = str(model)
        tree["cameras"] |= {"width": 16}
        tree["view_sets"]["reference"] |= {"width": 16}
        tree["trainer"] |= {"steps": 2, "preview_width": 16}
        tree["export"] |= {"resolution": 16, "texture": 64, "faces": 400}
        if stage == "coarse":
            tree["geometry"]["encoding"], tree["renderer"]["samples"] = GRID, 16
        else:
            tree["geometry"] |= {"resolution": 16, "material": {"encoding": GRID}}
        stages[stage] = compose(load_config(tree))
    result = run_stages(stages, listeners=[])
    assert result.status == "finished"
    assert trimesh.load(result.artifacts["glb"], force="mesh").area > 0
    for folder, stage in zip(stage_directories(result.directory.parent), stages.values(), strict=True):
        rows = RunDirectory.open(folder).read_metrics()
        assert [set(row["losses"]) for row in rows] == [set(stage.config.losses)] * 2
        assert all(math.isfinite(value) for row in rows for value in row["losses"].values())
