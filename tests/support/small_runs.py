"""Small runs whose parts are quick: a plane of pixels, or a small NeRF, under a closed-form Gaussian guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfw.compose import compose
from dfw.config.settings import RunConfig
from dfw.runs.start import make_trainer
from dfw.runs.trainer import StepRecord, Trainer

MEAN = [0.8, 0.3, 0.1]
OTHER = [0.1, 0.2, 0.9]
GAUSSIAN = {"type": "gaussian", "means": {"a red square": MEAN, "a blue square": OTHER}, "resolution": 16}

PIXELS: dict[str, Any] = {
    "prompt": "a red square",
    "device": "cpu",
    "geometry": {"type": "image", "width": 16, "height": 16},
    "renderer": {"type": "plane"},
    "guidance": GAUSSIAN,
    "losses": {"sds": {"guidance_scale": 1}},
    "prompter": "plain",
    "cameras": {"width": 16, "batch_size": 1},
    "optimizer": {"lr": 0.05},
    "trainer": {"steps": 6, "preview_every": 50, "checkpoint_every": 50, "preview_width": 16},
    "export": {"formats": [], "turntable_frames": 0},
}

GRID = {"type": "hash-grid", "levels": 2, "features": 2, "log2_size": 8, "base": 4, "finest": 8}
SCENE: dict[str, Any] = PIXELS | {
    "geometry": {"type": "nerf", "encoding": GRID, "density_network": {"width": 8}, "colour_network": {"width": 8}},
    "renderer": {"type": "volume", "samples": 16, "background": {"type": "solid"}, "shading": {"normals": "always"}},
    "cameras": {"width": 16, "batch_size": 2},
    "optimizer": {"lr": 0.01},
    "trainer": {"steps": 4, "preview_every": 50, "checkpoint_every": 50, "preview_width": 16},
    "export": {"formats": ["ply"], "resolution": 16, "texture": 64, "faces": 400, "turntable_frames": 2, "turntable_width": 16},
}


MERGED = ("trainer", "cameras", "export", "optimizer")


def config(base: dict[str, Any], folder: Path, **changes: Any) -> RunConfig:
    """A checked configuration that writes into `folder`; `trainer`, `cameras`, `export` and `optimizer` merge, others replace."""
    merged = dict(base) | {"output": str(folder / "runs")}
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = {**old, **value} if key in MERGED and "type" not in value else value
    return RunConfig.model_validate({key: value for key, value in merged.items() if value is not None})


def trained(made: RunConfig) -> tuple[Trainer, list[StepRecord]]:
    """A trainer after all its steps, and their records."""
    records: list[StepRecord] = []
    trainer = make_trainer(made, compose(made).build())
    trainer.train(lambda: False, records.append)
    return trainer, records
