"""Gaussians and cameras that tests agree on."""

import torch
from dreamfw_gaussians.geometry import Gaussians
from dreamfw_gaussians.renderer import Splatting

from dfw import CameraBatch

GREY = (0.25, 0.5, 0.875)
"""Exact in single precision, in which a background keeps its colour."""


def camera(*azimuths, elevation=20.0, distance=3.0, fov=40.0, height=12, width=20, dtype=torch.float64):
    """Cameras that look at the origin with z up, one for each azimuth, degrees."""
    azimuth = torch.tensor(azimuths or (0.0,), dtype=torch.float64)
    az, el = torch.deg2rad(azimuth), torch.deg2rad(torch.tensor(elevation, dtype=torch.float64))
    back = torch.stack([el.cos() * az.cos(), el.cos() * az.sin(), el.sin().expand_as(az)], -1)
    right = torch.stack([-az.sin(), az.cos(), torch.zeros_like(az)], -1)
    pose = torch.eye(4, dtype=torch.float64).repeat(len(azimuth), 1, 1)
    pose[:, :3] = torch.stack([right, torch.linalg.cross(back, right), back, distance * back], -1)
    full = torch.ones_like(azimuth)
    values = [pose, full * fov, azimuth, full * elevation, full * distance]
    return CameraBatch(*(value.to(dtype) for value in values), height=height, width=width)


class Varied(Gaussians):
    """Gaussians of all sizes, directions, opacities and colours, as after some training."""

    def initialise(self, generator):
        super().initialise(generator)
        count = self.config.initial

        def draw(*shape):
            return torch.randn(*shape, generator=generator, device=generator.device).to(self.means)

        with torch.no_grad():
            self.rotations += draw(*self.rotations.shape)
            self.scales += 0.4 * draw(*self.scales.shape)
            self.opacities[:count] += 1.5 + 2 * draw(count)
            self.colours += draw(*self.colours.shape)


def gaussians(count=40, seed=0, capacity=None, **options):
    """A varied scene; float32."""
    geometry = Varied(Gaussians.Config(capacity=capacity or count, initial=count, **options))
    geometry.initialise(torch.Generator().manual_seed(seed))
    return geometry


def single(mean=(0.0, 0.0, 0.0), scale=0.1, opacity=0.8, colour=(0.9, 0.3, 0.1), rotation=(1.0, 0.0, 0.0, 0.0)):
    """A geometry of one Gaussian; lists of means, opacities ... make several. float64."""
    means = torch.tensor(mean, dtype=torch.float64).reshape(-1, 3)
    count = len(means)
    geometry = Gaussians(Gaussians.Config(capacity=count, initial=count)).double()
    with torch.no_grad():
        geometry.means.copy_(means)
        geometry.scales.copy_(torch.tensor(scale, dtype=torch.float64).expand(count, 3).log())
        geometry.opacities.copy_(torch.tensor(opacity, dtype=torch.float64).expand(count).logit())
        geometry.colours.copy_(torch.tensor(colour, dtype=torch.float64).expand(count, 3).logit())
        geometry.rotations.copy_(torch.tensor(rotation, dtype=torch.float64).expand(count, 4))
    return geometry


def renderer(**background):
    """Over grey-blue, in evaluation mode, if nothing else is asked for."""
    return Splatting(Splatting.Config(background=background or {"type": "solid", "colour": GREY})).eval()


def stacked(render):
    """Colour, opacity and depth as (B, H, W, 5)."""
    return torch.cat([render.colour, render.opacity[..., None], render.depth[..., None]], dim=-1)
