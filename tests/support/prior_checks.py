"""What the tests of all pretrained priors ask: diffusers' own pipelines as the reference, and a run of two steps from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from dfw.config.load import load_config
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import run


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(count: int = 2, seed: int = 0, side: int = 16) -> Tensor:
    """Images (B, 3, side, side) in [0, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def steps_of(pipeline: Any, **call: Any) -> list[tuple[Tensor, float, Tensor]]:
    """Runs an unmodified pipeline; for each of its steps the guided prediction, the timestep and the noisy input."""
    steps: list[tuple[Tensor, float, Tensor]] = []
    step = pipeline.scheduler.step

    def watched(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> Any:
        steps.append((output.clone(), float(timestep), sample.clone()))
        return step(output, timestep, sample, *args, **options)

    pipeline.scheduler.step = watched
    pipeline.set_progress_bar_config(disable=True)
    pipeline(generator=torch.Generator().manual_seed(0), **call)
    return steps


def two_steps(folder: Path, guidance: dict[str, Any], side: int = 16, **sections: Any) -> list[dict[str, Any]]:
    """`dfw run` on a YAML file in `folder`, SDS on a plane of pixels; the numbers of its two steps."""
    table = {
        "prompt": "a red car",
        "device": "cpu",
        "output": str(folder / "runs"),
        "geometry": {"type": "dreamfw/image", "width": side, "height": side},
        "renderer": {"type": "dreamfw/plane"},
        "guidance": guidance,
        "losses": {"sds": {"type": "dreamfw/sds", "guidance_scale": 20}},
        "prompter": "plain",
        "cameras": {"width": side, "batch_size": 2},
        "trainer": {"steps": 2, "preview_width": 16},
        "export": {"formats": [], "turntable_frames": 0, "turntable_width": 16},
    } | sections
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(table), encoding="utf-8")
    finished = run(load_config(path, []), listeners=[])
    assert finished.status == "finished"
    rows = RunDirectory.open(finished.directory).read_metrics()
    assert [row["step"] for row in rows] == [0, 1]
    return rows
