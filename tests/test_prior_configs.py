"""The shipped configurations of the larger priors fit together; composing them loads no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfw.build import compose
from dfw.config import load_config
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.flow import Flow
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize(
    ("name", "guidance", "model"),
    [
        ("dreamfusion-if", DeepFloyd, "if-xl"),
        ("dreamfusion-sdxl", StableDiffusionXL, "sdxl"),
        ("dreamfusion-sd3", Flow, "sd3-medium"),
        ("dreamfusion-controlnet", ControlNet, "sd15"),
    ],
)
def test_a_shipped_configuration_composes(name: str, guidance: type, model: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", [])
    part = compose(config).guidance
    assert config.name == name
    assert part is not None
    assert (part.cls, part.config.model) == (guidance, model)  # type: ignore[attr-defined]


def test_deep_floyd_has_the_guidance_scale_and_elevations_of_its_recipe() -> None:
    composition = compose(load_config(CONFIGS / "dreamfusion-if.yaml", []))
    assert composition.losses["sds"].config.guidance_scale == 20  # type: ignore[attr-defined]
    assert composition.config.cameras.elevation == (-10, 90)
    assert composition.config.cameras.distance == (1.5, 2.0)
