"""Whether the silhouettes of all views can be those of one solid.

Legend: B views, S pixels of a side, K points of a ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, Score, Scorer, Shown

VIEWS = 16  # time grows with their square, and more views cut little off the hull
SPAN = 1.05  # half-length of the rays over what a view sees at the centre: an object in the frame ends within


class Silhouette(Scorer):
    """Agreement of the views' silhouettes with the visual hull of all (Laurentini 1994), in [0, 1].

    The hull is the largest solid inside all silhouettes. Its own silhouette in a view is a part of the view's. The score of a
    view is the share of its silhouette that the hull fills, so 1 says that one opaque solid can look like that from all sides. It
    is lower for fog, for what is seen from some sides only, and for what leaves the frame. A silhouette is where the opacity is
    at least one half. Those of other views are widened by one pixel, so that rounding takes nothing away.
    """

    class Config(ComponentConfig):
        """How finely the hull is looked at."""

        side: Annotated[int, Field(ge=8, le=256)] = 64
        """Pixels of a side to which silhouettes are reduced."""
        points: Annotated[int, Field(ge=8, le=1024)] = 96
        """Points of a ray that may lie in the hull."""

    usual = True
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each run."""
        return [self._one(run) for run in runs]

    def _one(self, run: Shown) -> Score:
        chosen = _spread(run.cameras)
        opacity = run.opacity[chosen][:, None].float() / 255
        side = min(self.config.side, opacity.shape[-1])
        solid = F.interpolate(opacity, (side, side), mode="area")[:, 0] >= 0.5
        seen = solid.flatten(1).any(1)
        if not bool(seen.all()):
            return Score(details={"why": f"nothing is opaque in {int((~seen).sum())} of {len(seen)} views"})
        shares = hull_shares(replace(run.cameras.select(chosen), height=side, width=side), solid, self.config.points)
        return Score(float(shares.mean()), details={"of": f"{len(chosen)} views of {side} pixels"})


def _spread(cameras: CameraBatch) -> Tensor:
    """Returns the numbers of up to VIEWS views, evenly through the batch, of those with the widest field of view."""
    wide = (cameras.fov_y == cameras.fov_y.max()).nonzero()[:, 0]
    return wide[torch.linspace(0, len(wide) - 1, min(VIEWS, len(wide))).round().long()]


def hull_shares(cameras: CameraBatch, solid: Tensor, points: int) -> Tensor:
    """Returns the share (B,) of each silhouette (B, S, S), boolean, that the silhouette of their visual hull fills.

    Along the ray through each pixel `points` equally spaced points are looked up in all other silhouettes.
    """
    wide = F.max_pool2d(solid[:, None].float(), 3, 1, 1)
    rays = cameras.rays()
    world_to_camera = torch.linalg.inv(cameras.camera_to_world)
    tangent = torch.tan(torch.deg2rad(cameras.fov_y) / 2)
    shares = []
    for view in range(len(cameras)):
        origin, direction = rays.origin[view][solid[view]], rays.direction[view][solid[view]]
        middle = float(cameras.distance[view])
        reach = SPAN * middle * float(torch.sin(torch.atan(tangent[view] * 2**0.5)))
        along = middle + reach * torch.linspace(-1, 1, points, dtype=origin.dtype)
        place = origin[:, None] + along[:, None] * direction[:, None]  # (R, K, 3)
        inside = torch.ones(place.shape[:-1], dtype=torch.bool)
        for other in range(len(cameras)):
            if other != view:
                inside &= _covered(place, world_to_camera[other], tangent[other], wide[other])
        shares.append(inside.any(1).float().mean())
    return torch.stack(shares)


def _covered(place: Tensor, world_to_camera: Tensor, tangent: Tensor, silhouette: Tensor) -> Tensor:
    """Returns whether points (R, K, 3) lie behind set pixels of a silhouette (1, S, S). Points outside the picture do not."""
    local = place @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    depth = (-local[..., 2]).clamp(min=1e-6)
    grid = torch.stack([local[..., 0], -local[..., 1]], dim=-1) / (depth * tangent)[..., None]
    found = F.grid_sample(silhouette[None], grid[None], mode="nearest", align_corners=False)
    return (found[0, 0] > 0.5) & (local[..., 2] < 0)
