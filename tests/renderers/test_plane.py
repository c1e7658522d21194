"""The plane shows an image geometry as it is."""

import pytest
import torch
from render_fields import ball, turn

from dfw import ConfigError
from dfw_geometry.image import Image
from dfw_renderers.plane import Plane


def image(**options) -> Image:
    geometry = Image(Image.Config(**options))
    geometry.initialise(torch.Generator().manual_seed(0))
    return geometry


def test_shows_the_values_for_each_view():
    geometry = image(width=6, height=4)
    output = Plane(Plane.Config())(geometry, turn(3, 8))
    assert output.colour.shape == (3, 4, 6, 3)
    assert all(torch.equal(view, geometry.image()[0]) for view in output.colour)
    assert (output.opacity == 1).all()
    assert (output.depth == 0).all()
    assert output.opacity.shape == output.depth.shape == (3, 4, 6)
    assert output.latent is False
    assert output.samples is None


def test_particles_are_shown_in_turn():
    geometry = image(width=2, height=2, count=2)
    colour = Plane(Plane.Config())(geometry, turn(3, 8)).colour
    assert torch.equal(colour[0], colour[2])
    assert not torch.equal(colour[0], colour[1])


def test_latents():
    output = Plane(Plane.Config())(image(width=4, height=4, space="latent"), turn(1, 8))
    assert output.latent is True
    assert output.colour.shape == (1, 4, 4, 4)


def test_gradients_reach_the_values():
    geometry = image(width=2, height=2)
    output = Plane(Plane.Config())(geometry, turn(2, 8))
    output.colour.sum().backward()
    assert (geometry.values.grad == 2).all()
    assert not output.opacity.requires_grad


def test_features():
    assert Plane.requires(Plane.Config()) == {"image"}
    assert Plane.provides(Plane.Config()) == {"colour", "opacity", "depth"}


def test_refuses_a_scene():
    with pytest.raises(ConfigError, match="volume"):
        Plane(Plane.Config())(ball(1.0), turn(1, 4))
