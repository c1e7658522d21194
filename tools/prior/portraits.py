"""Takes pictures of things whose shape is known, as a user would, and shows the same things from other sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from buffers import render
from cameras import eye_frame
from compose import lit
from data import RGB
from pairs import degraded, framed, moved, seen_centre
from PIL import Image
from torch import Tensor

from dfw_geometry.shapes import COLOURS, Single

DISTANCE, FOVY = 3.0, 40.0
"""Of all cameras: world units and degrees."""
LIGHTS = 8
"""Lights whose mean a true view is shown in."""


@dataclass(frozen=True)
class Portrait:
    """A picture of the ``colour`` ``kind``, from ``azimuth`` and ``elevation``, degrees."""

    kind: str
    colour: str
    azimuth: float
    elevation: float
    photograph: bool = False
    """Whether it has the faults of a photograph: `pairs.degraded`, and a mask that ends a little inside or outside."""

    @property
    def own(self) -> Tensor:
        """The angles ``[1, 2]``."""
        return torch.tensor([[self.azimuth, self.elevation]])

    def shown(self, angles: Tensor, side: int, generator: torch.Generator, lights: int = 1) -> Tensor:
        """Returns the thing from ``angles`` ``[B, 2]`` as the world frames it: ``[B, 4, side, side]``, times its coverage.

        It is lit as in training. ``lights`` is the number of lights whose mean is taken.
        """
        count = len(angles)
        full = torch.ones(count)
        cameras = {"azimuth": angles[:, 0], "elevation": angles[:, 1], "fovy": FOVY * full, "distance": DISTANCE * full}
        buffers = render(Single(self.kind), cameras, side).repeat_interleave(lights, 0)
        rgb = RGB[list(COLOURS).index(self.colour)].expand(count * lights, 3)
        each = {name: values.repeat_interleave(lights) for name, values in cameras.items()}
        layers = torch.cat(lit(buffers, each, rgb, rgb, generator), 1)
        return layers.view(count, lights, 4, side, side).mean(1)

    def save(self, path: Path, generator: torch.Generator, side: int = 256) -> None:
        """Writes the picture as a PNG with a transparent background."""
        layers = self.shown(self.own, side, generator)
        cover = layers[:, 3:]
        plain = torch.where(cover > 0, layers[:, :3] / cover.clamp_min(1e-3), 1.0).clamp(0, 1)
        if self.photograph:
            plain = degraded(layers[:, :3] + 1 - cover, generator)
            end = 0.25 + 0.5 * torch.rand((), generator=generator)
            cover = ((cover - end) * 3 + 0.5).clamp(0, 1)
        pixels = (torch.cat((plain, cover), 1)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)

    def framing(self, share: float) -> tuple[Tensor, Tensor]:
        """Returns zoom ``[1]`` and centre ``[1, 2]`` of the square that a guidance with this ``share`` cuts out."""
        return framed(self.shown(self.own, 256, torch.Generator())[:, 3:], torch.tensor([share]))

    def truth(self, angles: Tensor, share: float, generator: torch.Generator, side: int = 64) -> Tensor:
        """Returns how the thing looks from ``angles`` ``[B, 2]`` where the picture is framed with ``share``.

        ``[B, 4, side, side]``, multiplied by coverage, in the mean of `LIGHTS` lights.
        """
        zoom, centre = (values.expand(len(angles), *values.shape[1:]) for values in self.framing(share))
        layers = self.shown(angles, side, generator, LIGHTS)
        return moved(layers, zoom, seen_centre(centre, self.own.expand_as(angles), angles))

    def placed(self, points: Tensor, share: float) -> Tensor:
        """Maps points ``[N, 3]`` of a run with this ``share`` to where they are in the world of the true shape.

        In the run the picture's square fills the view of a camera at `DISTANCE` with `FOVY`.
        """
        zoom, centre = self.framing(share)
        _, frame = eye_frame(*self.own.T, torch.ones(1))
        half = DISTANCE * torch.tan(torch.deg2rad(torch.tensor(FOVY / 2)))
        offset = (centre[:, :1] * frame[..., 0] - centre[:, 1:] * frame[..., 1]) * half
        return points / zoom + offset
