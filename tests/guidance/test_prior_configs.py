"""The shipped configurations of the larger priors fit together; composing them loads no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfw import Progress, value_at
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.runs.optimizer import learning_rate_of
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.flow import Flow
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("name", "guidance", "model"),
    [
        ("dreamfusion-if", DeepFloyd, "if-xl"),
        ("dreamfusion-sdxl", StableDiffusionXL, "sdxl"),
        ("dreamfusion-sd3", Flow, "sd3-medium"),
        ("dreamfusion-controlnet", ControlNet, "sd15"),
        ("prolificdreamer-sd", StableDiffusion, "sd21-base"),
    ],
)
def test_a_shipped_configuration_composes(name: str, guidance: type, model: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", [])
    part = compose(config).chosen["guidance",]
    assert config.name == name
    assert (part.cls, part.config.model) == (guidance, model)  # type: ignore[attr-defined]


def test_deep_floyd_has_the_guidance_scale_and_elevations_of_its_recipe() -> None:
    composition = compose(load_config(CONFIGS / "dreamfusion-if.yaml", []))
    sds, cameras = (composition.chosen[path].config for path in (("losses", "sds"), ("cameras",)))
    assert sds.guidance_scale == 20  # type: ignore[attr-defined]
    assert cameras.elevation == (-10, 90)  # type: ignore[attr-defined]
    assert cameras.distance == (1.5, 2.0)  # type: ignore[attr-defined]


def test_prolificdreamer_changes_resolution_and_timesteps_at_step_5000_and_thins_out_at_10000() -> None:
    composition = compose(load_config(CONFIGS / "prolificdreamer-sd.yaml", []))
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
    assert (cameras.position_jitter, cameras.look_at_jitter, cameras.up_jitter) == (0, 0, 0)
