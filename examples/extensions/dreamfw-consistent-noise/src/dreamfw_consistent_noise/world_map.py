"""Noise that turns with the camera: a window on one large map of noise.

Legend: B views, C channels of side h of the guidance's space.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from dfw import LossInputs

from .table import Table

_MAP, _PIXEL = 3, 2


class WorldMap(Table):
    """A window of h x h on a map that spans 360 by 180 degrees, moved by azimuth and elevation. FSD (Yan et al. 2024).

    A turn of the camera moves the noise as it moves the front of a scene; no depth is needed. Pixels without surface
    (opacity under 1/2) have noise of their own that is the same in every view.
    """

    class Config(Table.Config):
        """The window."""

        span: float = Field(default=180.0, gt=0, le=180)
        """Degrees of the map that one view shows, across and up."""

    config: Config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Where the background is."""
        return frozenset({"opacity"})

    @torch.no_grad()
    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """As `Noise`."""
        self.renew(inputs)
        side, cameras = encoded.shape[-1], inputs.cameras
        across = round(side * 360 / self.config.span)  # columns of the whole map
        place = torch.arange(side, device=cameras.azimuth.device)
        column = torch.round(cameras.azimuth * (across / 360)).long()[:, None, None] + place
        row = place[:, None] - torch.round(cameras.elevation * (side / self.config.span)).long()[:, None, None]
        window = self.in_image(_MAP, row, torch.remainder(column, across), encoded)
        behind = self.in_image(_PIXEL, place[:, None], place[None, :], encoded)
        return torch.where(solid(inputs.render.opacity, side)[:, None], window, behind)


def solid(opacity: Tensor, side: int) -> Tensor:
    """Whether each pixel (B, h, h) of the centred square of `opacity` (B, H, W) shows the scene."""
    square = min(opacity.shape[1:])
    top, left = ((length - square) // 2 for length in opacity.shape[1:])
    inner = opacity[:, None, top : top + square, left : left + square]
    return torch.nn.functional.interpolate(inner, (side, side), mode="area")[:, 0] >= 0.5
