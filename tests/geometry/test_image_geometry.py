"""The plane of pixels or latents."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from dfw_geometry.image import Image


def make(seed: int = 0, **options: object) -> Image:
    image = Image(Image.Config.model_validate(options))
    image.initialise(torch.Generator().manual_seed(seed))
    return image


def test_pixels_start_around_grey() -> None:
    image = make(width=128, height=96)
    assert image.image().shape == (1, 96, 128, 3)
    assert image.values.mean().item() == pytest.approx(0.5, abs=5e-3)
    assert image.values.std().item() == pytest.approx(0.1, rel=0.02)
    assert not image.latent


def test_latents_start_standard_normal_and_unbounded() -> None:
    image = make(width=64, height=64, space="latent")
    assert image.image().shape == (1, 64, 64, 4)
    assert torch.equal(image.image(), image.values)
    assert image.values.std().item() == pytest.approx(1, rel=0.03)
    assert image.latent
    assert make(space="latent", channels=16).image().shape[-1] == 16
    assert make(mean=0.25, deviation=0).image().unique().tolist() == [0.25]


def test_pixels_are_clamped_straight_through() -> None:
    image = make(width=2, height=1)
    with torch.no_grad():
        image.values.copy_(torch.tensor([[[[-0.5, 0.25, 1.5], [0.0, 1.0, 2.0]]]]))
    out = image.image()
    assert torch.allclose(out, image.values.detach().clamp(0, 1))
    factor = torch.arange(6.0).view(1, 1, 2, 3)
    (out * factor).sum().backward()
    assert torch.equal(image.values.grad, factor)  # as if nothing were clamped


def test_particles_are_independent_and_cycle() -> None:
    image = make(count=3, width=4, height=4)
    planes = image.image()
    assert planes.shape == (3, 4, 4, 3)
    assert not torch.equal(planes[0], planes[1])
    assert torch.equal(image.image(2), planes[:2])
    assert torch.equal(image.image(5), planes[[0, 1, 2, 0, 1]])
    image.image(5).sum().backward()
    assert image.values.grad is not None
    assert image.values.grad[:, 0, 0, 0].tolist() == [2, 2, 1]


def test_the_generator_decides() -> None:
    before = torch.get_rng_state()
    assert torch.equal(make(1).values, make(1).values)
    assert not torch.equal(make(1).values, make(2).values)
    assert torch.equal(before, torch.get_rng_state())
    assert not Image(Image.Config()).values.any()


def test_configuration() -> None:
    with pytest.raises(ValidationError, match="space: latent"):
        Image.Config(channels=4)
    assert Image.provides(Image.Config()) == {"image"}
    assert list(make().parameter_groups()) == ["geometry"]
