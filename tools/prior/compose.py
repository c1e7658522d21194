"""Composes images from buffers: draws named colours, light and a background anew every time."""

from __future__ import annotations

import torch
from cameras import eye_frame, pixel_rays
from torch import Tensor


def backgrounds(avoid: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draws backgrounds ``[B, 3, size, size]``: colours, gradients, greys. Plain ones keep 0.2 from ``avoid`` ``[B, 3]``."""
    count = len(avoid)
    colour = torch.rand(count, 3, generator=generator)
    grey = torch.rand(count, 1, generator=generator)
    grey = torch.where(torch.rand(count, 1, generator=generator) < 0.6, (grey > 0.5).float(), grey).expand(-1, 3)
    kind = torch.rand(count, 1, generator=generator)
    plain = torch.where(kind < 0.25, grey, colour)
    near = (plain - avoid).abs().amax(1, keepdim=True) < 0.3
    plain = torch.where(near, (plain + 0.5) % 1.0, plain)  # else an object could melt into its background
    other = torch.rand(count, 3, generator=generator)
    angle = torch.rand(count, generator=generator) * 2 * torch.pi
    grid = torch.linspace(-0.5, 0.5, size)
    ramp = angle.cos()[:, None, None] * grid[None, None] + angle.sin()[:, None, None] * grid[None, :, None]
    ramp = (ramp * (kind[:, 0] > 0.85)[:, None, None] + 0.0).clamp(-0.5, 0.5)[:, None]
    mix = plain[..., None, None] + (other - plain)[..., None, None] * (ramp.abs() * 1.4)
    return mix.clamp(0, 1)


def unit(vectors: Tensor, dim: int = 1) -> Tensor:
    """Scales vectors along ``dim`` to length one. Zero stays zero."""
    return vectors * (vectors * vectors).sum(dim, keepdim=True).clamp_min(1e-12).rsqrt()


FLAT = 0.3
"""Share of single pictures that show the objects' own colours, without a light."""
AMBIENT = 0.4
"""Ambient light in scenes of several views."""


def shading(normal: Tensor, position: Tensor, eye: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the Lambertian light ``[B, 1, H, W]`` of a point light near each camera. The share `FLAT` of images has none."""
    toward = unit(unit(eye) + torch.randn(len(eye), 3, generator=generator))
    drawn = torch.rand(3, len(eye), generator=generator)
    light = toward * (2.0 + drawn[0] * 1.5)[:, None]
    beam = unit(light[..., None, None] - position)
    ambient = torch.where(drawn[1] < FLAT, torch.ones(()), 0.1 + 0.4 * drawn[2])[:, None, None, None]
    return ambient + (1 - ambient) * (normal * beam).sum(1, keepdim=True).clamp_min(0)


def headlight(normal: Tensor, position: Tensor, eye: Tensor) -> Tensor:
    """Returns the Lambertian light ``[B, 1, H, W]`` of a lamp at each camera. It is the same in all pictures.

    Views of one scene then show the slope of a surface, which outlines cannot show. Other lights leave it open whether a side is
    dark by its colour, by its slope, or by the light.
    """
    beam = unit(eye[..., None, None] - position)
    return AMBIENT + (1 - AMBIENT) * (normal * beam).sum(1, keepdim=True).clamp_min(0)


def lit(
    buffers: Tensor,
    cameras: dict[str, Tensor],
    first: Tensor,
    second: Tensor,
    generator: torch.Generator,
    together: int = 1,
) -> tuple[Tensor, Tensor]:
    """Returns the lit objects ``[B, 3, H, W]``, multiplied by their coverage, and the coverage ``[B, 1, H, W]``, in [0, 1].

    The uint8 ``buffers`` get the main colours ``first`` and ``second`` ``[B, 3]``. Where ``together`` views are one scene,
    `headlight` lights them, else `shading`.
    """
    layers = buffers.float() * (1 / 255.0)
    cover = layers[:, 5:6]
    normal = unit(layers[:, 6:9] * 2 - 1)
    albedo = layers[:, 0:1] * first[..., None, None] + layers[:, 1:2] * second[..., None, None] + layers[:, 2:5]
    eye, rotation = eye_frame(cameras["azimuth"], cameras["elevation"], cameras["distance"])
    rays = pixel_rays(rotation, cameras["fovy"], buffers.shape[-1]).permute(0, 3, 1, 2)
    depth = layers[:, 9:10] / cover.clamp_min(1e-3) * 2 + (cameras["distance"] - 1.0)[:, None, None, None]
    position = eye[..., None, None] + rays * depth
    light = shading(normal, position, eye, generator) if together == 1 else headlight(normal, position, eye)
    return albedo * light, cover


def compose(
    buffers: Tensor, cameras: dict[str, Tensor], first: Tensor, second: Tensor, generator: torch.Generator, together: int = 1
) -> Tensor:
    """Returns images ``[B, 3, H, W]`` in [0, 1] of what `lit` returns.

    ``together`` consecutive views are one scene, with one background.
    """
    shown, cover = lit(buffers, cameras, first, second, generator, together)
    behind = backgrounds(first[::together], buffers.shape[-1], generator).repeat_interleave(together, 0)
    return (shown + (1 - cover) * behind).clamp(0, 1)
