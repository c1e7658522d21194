"""The field of latents: constant latents on paper, their colours, their background, and who refuses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfs import cube, seeded
from pydantic import ValidationError
from small_runs import SCENE, config, trained
from tiny_diffusion import save_tiny_model

from dfw import ConfigError, LossInputs, Progress, Views, orbit
from dfw.compose import compose
from dfw_geometry.latent_nerf import LatentNeRF
from dfw_renderers.volume import Volume

COLOURS = ((0.1, 0.0, 0.2), (0.0, 0.3, 0.0), (0.05, -0.1, 0.0), (0.0, 0.0, -0.4), (0.5, 0.5, 0.5))
LATENTS = torch.tensor([1.0, -0.5, 2.0, 0.25])
SMALL: dict[str, Any] = {"encoding": {"type": "dense-grid", "resolutions": [4], "features": 2}, "colour_network": {"layers": 0}}


def constant(latents: torch.Tensor = LATENTS, **options: Any) -> LatentNeRF:
    """A field whose latents are the same everywhere."""
    made = LatentNeRF(LatentNeRF.Config.model_validate({"colours": COLOURS, **SMALL, **options}))
    made.initialise(seeded())
    with torch.no_grad():
        made.colour_network.last.weight.zero_()
        made.colour_network.last.bias.copy_(latents)
    return made


def test_albedo_is_the_linear_colour_of_the_latents() -> None:
    """0.5 + 0.1 + 0.05 * 2 = 0.7; 0.5 - 0.5 * 0.3 - 0.1 * 2 = 0.15; 0.5 + 0.2 - 0.25 * 0.4 = 0.6."""
    found = constant().sample(cube(5).view(5, 1, 3))
    assert found.extras["latents"].shape == (5, 1, 4)
    torch.testing.assert_close(found.extras["latents"][2, 0], LATENTS)
    torch.testing.assert_close(found.albedo[2, 0], torch.tensor([0.7, 0.15, 0.6]))


def test_a_colour_out_of_range_is_clamped_and_can_come_back() -> None:
    made = constant(torch.tensor([9.0, 0, 0, 0]))
    albedo = made.sample(cube(1)).albedo
    assert albedo[0].tolist() == [1, 0.5, 1]  # 1.4, 0.5, 2.3
    albedo[0, 0].backward()  # type: ignore[no-untyped-call]
    assert made.colour_network.last.bias.grad is not None
    torch.testing.assert_close(made.colour_network.last.bias.grad, torch.tensor([row[0] for row in COLOURS[:-1]]))


def test_by_default_a_background_has_latents_of_its_colour() -> None:
    made, colour = constant(), torch.rand(7, 3, generator=seeded(3))
    colours = torch.tensor(COLOURS)
    torch.testing.assert_close(made.latents_of(colour) @ colours[:-1] + colours[-1], colour)


def test_a_background_has_the_latents_that_the_configuration_says() -> None:
    rows = ((1.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 3.0, 1), (0.5, 0, 0, -1))
    found = constant(flat_latents=rows).latents_of(torch.tensor([0.2, 0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([0.7, 1, 3, 0]))


def test_the_picture_of_latents_lies_over_those_of_the_background() -> None:
    made, renderer = constant(), Volume(Volume.Config(background={"type": "solid", "colour": [0.2, 0.5, 1.0]})).eval()
    render = renderer(made, orbit(2, 10, 3, 40, 8, 8))
    opacity = render.opacity[..., None]
    assert 0.5 < opacity.max() < 1
    assert opacity.min() == 0
    behind = made.latents_of(torch.tensor([0.2, 0.5, 1.0]))
    torch.testing.assert_close(render.picture("latents", orbit(2, 10, 3, 40, 8, 8)), opacity * LATENTS + (1 - opacity) * behind)


def test_the_guidance_gets_latents_as_they_are(tmp_path: Path) -> None:
    made, composition = constant(), compose(config(SCENE, tmp_path, guidance=tiny(tmp_path)))
    guidance, cameras = composition.guidance("guidance"), orbit(2, 10, 3, 40, 8, 8)
    render = Volume(Volume.Config()).eval()(made, cameras)
    inputs = LossInputs(render, Views(cameras), None, guidance, Progress(0, 1), seeded(), made, of="latents")
    assert guidance.latent_resolution == 8
    assert torch.equal(inputs.encoded, render.extras["latents"].permute(0, 3, 1, 2))
    few = replace(render, extras={"latents": render.extras["latents"][..., :3]})
    with pytest.raises(ConfigError, match=r"made of 3 latents and .* works in 4 channels; give the geometry as many"):
        _ = replace(inputs, render=few).encoded


def tiny(folder: Path) -> dict[str, Any]:
    """A small random latent diffusion model."""
    return {"type": "stable-diffusion", "model": str(save_tiny_model(folder / "model"))}


@pytest.mark.parametrize(("of", "learns"), [("latents", False), ("colour", True)])
def test_the_linear_layer_learns_where_a_loss_looks_at_colours(tmp_path: Path, of: str, learns: bool) -> None:
    geometry = {"type": "latent-nerf", **SMALL}
    sds = {"type": "sds", "guidance_scale": 1, "of": of}
    made = config(SCENE, tmp_path, guidance=tiny(tmp_path), geometry=geometry, losses={"sds": sds}, prompt="a red ball")
    trainer, records = trained(made)
    moved = dict(trainer.geometry.named_parameters())["colours"].detach() - torch.tensor(LatentNeRF.Config().colours)
    assert bool(moved.any()) is learns
    assert all(record.losses["sds"] > 0 for record in records)
    colours = trainer.scene.render(width=8).colours
    assert colours.shape == (1, 8, 8, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_a_field_of_colours_has_no_latents_to_look_at(tmp_path: Path) -> None:
    sds = {"type": "sds", "of": "latents"}
    with pytest.raises(ConfigError, match=r"losses\.sds\.of: .*needs latents; geometry dreamfw/nerf .* does not provide them"):
        compose(config(SCENE, tmp_path, losses={"sds": sds}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": ((0.1, 0.2, 0.3),)}, "a row for each latent, and a last one"),
        ({"flat_latents": ((1.0, 0, 0),) * 4}, "needs 4 rows .* of 4"),
        ({"flat_latents": ((1.0, 0, 0, 0),) * 3}, "needs 4 rows .* of 4"),
    ],
)
def test_tables_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LatentNeRF.Config.model_validate(options)
