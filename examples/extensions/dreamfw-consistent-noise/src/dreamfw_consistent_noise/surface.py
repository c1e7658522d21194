"""Noise that lies on the surface: the same point of the scene has the same noise in every view.

Legend: B views, C channels of side h of the guidance's space, K samples in one of its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor

from dfw import CameraBatch, LossInputs, RenderOutput

from .table import Table, mixed

SEEN = 0.1
"""Opacity above which a sample shows the surface, as in the authors' code."""
_CELL, _PIXEL = 1, 2
"""First keys of noise that belongs to a cell, and of noise that belongs to a pixel."""


class Surface(Table):
    """Noise of the cells of a reference space that a pixel sees, summed. Consistent Flow Distillation (Yan et al., ICLR 2025).

    A pixel p sees the cells c with K_pc of its samples: eps_p = sum_c K_pc eps_c / sqrt(sum_c K_pc^2), which has unit variance
    however many cells there are. A cell counts in one pixel of a view alone, in which its centre lies, so that pixels of a
    view are independent. Between views the correlation of two pixels is their overlap on the surface. Pixels that see no
    surface, or have no cell, have noise of their own that is the same in every view.
    """

    class Config(Table.Config):
        """The reference space and its cells."""

        reference: Literal["directions", "places"] = "directions"
        """`directions`: cells of the unit sphere around the scene's centre, so that noise stays where it is while the surface
        moves towards the centre or away. `places`: cells of space, for scenes with several surfaces in one direction."""
        cell: PositiveFloat = 0.05
        """Side of a cell: world units, or on the unit sphere. A third of a pixel's side on the surface is good."""
        samples: int = Field(default=6, ge=1, le=16)
        """Samples along each side of a pixel; twice as many as cells is good."""

    config: Config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Where the surface is."""
        return frozenset({"depth", "opacity"})

    @torch.no_grad()
    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """As `Noise`. Logs `cells`: how many a pixel with surface sums, (sum K)^2 / sum K^2."""
        self.renew(inputs)
        side, config = encoded.shape[-1], self.config
        seen = surface_points(inputs.render, inputs.cameras, side, config.samples)
        cell, centre = self._cells(seen.point)
        key, pixel = mixed(_CELL, *cell.unbind(-1)), pixels(side, cell.device)[..., None]
        own = seen.solid & (home(centre, seen.cameras, side) == pixel)
        own = own & (first_pixel(key, own) == pixel)  # samples of a cell at several distances may put its centre in several
        same = own[..., :, None] & own[..., None, :] & (key[..., :, None] == key[..., None, :])
        variance = same.sum((-2, -1))  # sum_c K_pc^2 is the number of pairs of samples in one cell
        channel = torch.arange(encoded.shape[1], device=key.device).view(-1, 1, 1, 1)
        total = (self.look_up(mixed(key[:, None], channel)) * own[:, None]).sum(-1)
        covered = variance > 0
        self._log_cells(own, variance, covered)
        place = torch.arange(side, device=key.device)
        behind = self.in_image(_PIXEL, place[:, None], place[None, :], encoded)
        noise = total / variance.clamp_min(1).sqrt()[:, None]
        return torch.where(covered[:, None], noise.to(encoded), behind)

    def _cells(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The cell of each point (..., 3): its whole-number place (..., 3), and its centre in the world (..., 3)."""
        size = self.config.cell
        if self.config.reference == "places":
            cell = torch.floor(point / size)
            return cell.long(), (cell + 0.5) * size
        radius = point.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        cell = torch.floor(point / radius / size)
        return cell.long(), radius * F.normalize(cell + 0.5, dim=-1)

    def _log_cells(self, own: Tensor, variance: Tensor, covered: Tensor) -> None:
        count = own.sum(-1).square() / variance.clamp_min(1)
        self.log("cells", (count * covered).sum() / covered.sum().clamp_min(1))


@dataclass(frozen=True)
class Seen:
    """What the pixels of a guidance's space see of the surface."""

    point: Tensor
    """(B, h, h, K, 3), world units; anything where `solid` is not."""
    solid: Tensor
    """(B, h, h, K) bool, whether there is a surface."""
    cameras: CameraBatch
    """Cameras of what the guidance sees: the centred square of the render."""


def surface_points(render: RenderOutput, cameras: CameraBatch, side: int, samples: int) -> Seen:
    """Surface points on a grid of samples x samples in each of side x side pixels of the render's centred square.

    Inverse depth is interpolated, weighted by opacity: exact on planes, and the background does not pull edges away.
    """
    square, fine = min(cameras.height, cameras.width), side * samples
    fov = 2 * torch.rad2deg(torch.atan(torch.tan(torch.deg2rad(cameras.fov_y) / 2) * (square / cameras.height)))
    coarse = replace(cameras, fov_y=fov, height=square, width=square)
    lens = replace(cameras, fov_y=fov, height=fine, width=fine)
    depth, opacity = centred(render.depth, square), centred(render.opacity, square)
    opacity = opacity * (depth > 0)
    inverse = opacity / (depth * ahead(coarse)).clamp_min(1e-6)
    size = (fine, fine)
    opacity, inverse = F.interpolate(torch.stack([opacity, inverse], 1), size, mode="bilinear", align_corners=False).unbind(1)
    distance = opacity / inverse.clamp_min(1e-6) / ahead(lens)
    rays = lens.rays()
    point = rays.origin + distance[..., None] * rays.direction
    shape = (len(cameras), side, samples, side, samples)
    point = point.view(*shape, 3).transpose(2, 3).flatten(3, 4)
    return Seen(point, (opacity > SEEN).view(shape).transpose(2, 3).flatten(3, 4), replace(lens, height=side, width=side))


def centred(picture: Tensor, square: int) -> Tensor:
    """The centred square of pictures (B, H, W)."""
    top, left = ((length - square) // 2 for length in picture.shape[1:])
    return picture[:, top : top + square, left : left + square]


def ahead(cameras: CameraBatch) -> Tensor:
    """Cosine (B, H, W) of the angle between each pixel's ray and the camera's axis."""
    return -torch.einsum("bhwi,bi->bhw", cameras.rays().direction, cameras.camera_to_world[:, :3, 2])


def pixels(side: int, device: torch.device) -> Tensor:
    """The number of each pixel, (side, side), row by row."""
    return torch.arange(side * side, device=device).view(side, side)


def first_pixel(key: Tensor, own: Tensor) -> Tensor:
    """For each sample (B, h, h, K) with `own` the first pixel of its view that has such a sample of the same `key`."""
    ordered, order = torch.where(own, key, 0).flatten(1).sort(dim=1, stable=True)
    place = torch.arange(order.shape[1], device=key.device)
    begins = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)
    start = torch.where(begins, place, 0).cummax(1).values
    first = order.gather(1, start) // key.shape[-1]  # samples count on from pixel to pixel
    return torch.empty_like(order).scatter_(1, order, first).view_as(key)


def home(point: Tensor, cameras: CameraBatch, side: int) -> Tensor:
    """The number of the pixel (B, h, h, K) in which cameras see points (B, h, h, K, 3); -1 outside the picture or behind."""
    pose = cameras.camera_to_world
    local = torch.einsum("bhwki,bij->bhwkj", point - cameras.position[:, None, None, None], pose[:, :3, :3])
    half = torch.tan(torch.deg2rad(cameras.fov_y) / 2).view(-1, 1, 1, 1)
    reach = -local[..., 2] * half
    column = torch.floor((local[..., 0] / reach + 1) * (side / 2))
    row = torch.floor((1 - local[..., 1] / reach) * (side / 2))
    inside = (reach > 0) & (column >= 0) & (column < side) & (row >= 0) & (row < side)
    return torch.where(inside, row * side + column, -1).long()
