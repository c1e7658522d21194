"""The shipped configurations of the larger priors fit together; composing them loads no model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dfw import ConfigError, Progress, value_at
from dfw.compose import compose
from dfw.config.load import load_config
from dfw_geometry.nerf import NeRF
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.flow import Flow
from dfw_guidance.imagedream import ImageDream
from dfw_guidance.mvdream import MVDream
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL
from dfw_guidance.zero123 import Zero123

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("name", "guidance", "model"),
    [
        ("dreamfusion-if", DeepFloyd, "if-xl"),
        ("dreamfusion-sdxl", StableDiffusionXL, "sdxl"),
        ("dreamfusion-sd3", Flow, "sd3-medium"),
        ("dreamfusion-controlnet", ControlNet, "sd15"),
        ("textmesh-sd", StableDiffusion, "sd21-base"),
        ("zero123-sd", Zero123, "zero123-xl"),
        ("zero123", Zero123, "embedded"),
        ("mvdream-sd", MVDream, "mvdream-sd21"),
        ("mvdream", MVDream, "embedded"),
        ("imagedream-sd", ImageDream, "imagedream"),
        ("dreamfusion-laptop", StableDiffusion, "bk-tiny"),
    ],
)
def test_a_shipped_configuration_composes(name: str, guidance: type, model: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", ["image=teddy.png"])
    part = compose(config).chosen["guidance",]
    assert config.name == name
    assert (part.cls, part.config.model) == (guidance, model)  # type: ignore[attr-defined]


def test_dreamfusion_sd_has_the_numbers_of_its_recipe() -> None:
    """threestudio's dreamfusion-sd.yaml at commit 28d9d80, in our words."""
    composition = compose(load_config(CONFIGS / "dreamfusion-sd.yaml", []))
    config: Any = composition.config
    geometry: Any
    renderer: Any
    sds: Any
    geometry, renderer, sds = (composition.chosen[p].config for p in (("geometry",), ("renderer",), ("losses", "sds")))
    assert sds.guidance_scale == 100 + 1
    assert (sds.t_min, sds.t_max, geometry.radius, renderer.samples) == (0.02, 0.98, 2, 512)
    plan = geometry.coarse_to_fine
    assert (plan.start_levels, plan.start * config.trainer.steps, plan.fade) == (8, 2_000, False)
    assert (plan.end - plan.start) * config.trainer.steps / (geometry.encoding.levels - plan.start_levels) == pytest.approx(500)
    grid = geometry.encoding
    assert grid.base * 1.447269237440378**15 == pytest.approx(grid.finest)
    nerf: Any = NeRF(geometry)
    assert nerf.density(torch.zeros(1, 3)).item() == pytest.approx(10, abs=1e-3)  # softplus(10), networks not drawn yet
    assert nerf.density(torch.tensor([[0.5, 0.0, 0.0]])).item() == pytest.approx(math.log(2), abs=1e-3)
    background: Any = renderer.background.build().config
    assert (background.layers, background.width, background.random_probability) == (2, 16, 0)
    assert renderer.shading.start * config.trainer.steps == 2_000
    assert composition.chosen["losses", "orientation"].config.rays == "hit"  # type: ignore[attr-defined]


def test_deep_floyd_has_the_guidance_scale_and_elevations_of_its_recipe() -> None:
    composition = compose(load_config(CONFIGS / "dreamfusion-if.yaml", []))
    sds, cameras = (composition.chosen[path].config for path in (("losses", "sds"), ("cameras",)))
    assert sds.guidance_scale == 21  # type: ignore[attr-defined]
    assert cameras.elevation == (-10, 90)  # type: ignore[attr-defined]
    assert cameras.distance == (1.5, 2.0)  # type: ignore[attr-defined]


def test_mvdream_has_the_numbers_of_its_recipe() -> None:
    """MVDream-threestudio's mvdream-sd21.yaml."""
    composition = compose(load_config(CONFIGS / "mvdream-sd.yaml", []))
    config: Any = composition.config
    loss: Any
    cameras: Any
    renderer: Any
    loss, cameras, renderer = (composition.chosen[path].config for path in (("losses", "mvdream"), ("cameras",), ("renderer",)))

    def at(step: int) -> tuple[float, ...]:
        schedules = (loss.t_min, loss.t_max, cameras.width, cameras.batch_size)
        return tuple(value_at(one, Progress(step, config.trainer.steps)) for one in schedules)

    assert [at(step) for step in (0, 4_000, 4_999, 5_000, 8_000)] == [
        (0.98, 0.98, 64, 8),
        (pytest.approx(0.5), pytest.approx(0.74), 64, 8),
        (pytest.approx(0.02 + 0.96 * 3001 / 8000), pytest.approx(0.5 + 0.48 * 3001 / 8000), 64, 8),
        (pytest.approx(0.38), pytest.approx(0.68), 256, 4),
        (0.02, 0.5, 256, 4),
    ]
    assert (loss.guidance_scale, loss.rescale, loss.weighting, config.trainer.steps) == (50, 0.5, "one", 10_000)
    assert (cameras.count, cameras.fov, cameras.distance, cameras.relative) == (4, (15, 60), (0.8, 1.0), True)
    assert cameras.elevation == (0, 30)
    background: Any = renderer.background.build().config
    assert (background.random_probability, background.shared) == (0.5, True)
    assert list(config.losses) == ["mvdream"]


def test_imagedream_has_the_numbers_of_its_recipe() -> None:
    """The authors' imagedream-sd21-shading.yaml. The picture stands in one place."""
    composition = compose(load_config(CONFIGS / "imagedream-sd.yaml", ["image=teddy.png"]))
    loss: Any
    cameras: Any
    guidance: Any
    loss, cameras, guidance = (composition.chosen[path].config for path in (("losses", "mvdream"), ("cameras",), ("guidance",)))
    assert (loss.guidance_scale, loss.rescale, composition.config.trainer.steps) == (5, 0.2, 12_500)
    assert (cameras.fov, cameras.distance, cameras.elevation, cameras.count) == ((45, 50), (0.6, 0.75), (0, 5), 4)
    assert guidance.image.endswith("teddy.png")
    assert guidance.views == 4
    assert guidance.pixels


def test_zero123_has_the_numbers_of_its_recipe() -> None:
    """threestudio's zero123.yaml at commit 28d9d80. Picture and pose stand in one place, for guidance and losses."""
    composition = compose(load_config(CONFIGS / "zero123-sd.yaml", ["image=teddy.png", "view_sets.reference.elevation=20"]))
    config: Any = composition.config
    sds: Any
    cameras: Any
    guidance: Any
    reference: Any
    paths = (("losses", "sds"), ("cameras",), ("guidance",), ("view_sets", "reference"))
    sds, cameras, guidance, reference = (composition.chosen[path].config for path in paths)

    def at(step: int) -> tuple[float, ...]:
        return tuple(value_at(one, Progress(step, 600)) for one in (sds.t_min, sds.t_max, cameras.width, cameras.batch_size))

    assert [at(step) for step in (0, 100, 200, 300)] == [
        (0.4, 0.85, 64, 12),
        (pytest.approx(0.3), pytest.approx(0.675), 64, 12),
        (0.2, 0.5, 64, 12),
        (0.2, 0.5, 256, 2),
    ]
    assert (sds.guidance_scale, config.losses["sds"].weight, config.trainer.steps) == (3, 0.1, 600)
    weights = {name: loss.weight for name, loss in config.losses.items()}
    assert (weights["picture"], weights["mask"], weights["orientation"], weights["opacity"]) == (500, 50, 1, 0.1)
    assert weights["entropy"] == pytest.approx(0.1 * math.log(2), abs=1e-3)
    assert weights["smooth"] == pytest.approx(8 * 2 / 3, abs=0.05)  # a mean over channels and a sum over axes there
    shared = ("image", "mask", "share", "azimuth", "elevation", "distance", "background")
    assert all(getattr(guidance, name) == getattr(reference, name) for name in shared)
    assert (guidance.image, guidance.elevation, guidance.distance) == (str(Path.cwd() / "teddy.png"), 20, 3.8)
    assert cameras.distance == (reference.distance,) * 2
    assert cameras.fov == (reference.fov,) * 2


def test_a_picture_that_nobody_named_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"guidance\.image: no picture is named; write image=PICTURE"):
        compose(load_config(CONFIGS / "zero123-sd.yaml", []))


def test_the_laptops_configuration_sees_small_pictures_through_a_small_autoencoder_and_asks_once_a_step() -> None:
    composition = compose(load_config(CONFIGS / "dreamfusion-laptop.yaml", []))
    config: Any = composition.config
    guidance: Any
    cameras: Any
    guidance, cameras = (composition.chosen[path].config for path in (("guidance",), ("cameras",)))
    assert (guidance.autoencoder, guidance.resolution, guidance.precision) == ("taesd", 256, "bf16")
    assert (cameras.batch_size, config.trainer.accumulate) == (1, 1)
    full = compose(load_config(CONFIGS / "dreamfusion-sd.yaml", [])).config.losses
    for name in ("orientation", "opacity"):  # a quarter of the latents, a quarter of the weight
        ours, theirs = (value_at(losses[name].weight, Progress(9_999, 10_000)) for losses in (config.losses, full))
        assert ours == pytest.approx(theirs / 4)
