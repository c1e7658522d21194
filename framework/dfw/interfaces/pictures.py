"""Draws the rendered shape as a picture, in the conventions of the annotators that control networks were trained with.

Legend: B views of H x W pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dfw.interfaces.data import CameraBatch


def depth_picture(distance: Tensor, opacity: Tensor, cameras: CameraBatch) -> Tensor:
    """Disparity as MiDaS shows it (Ranftl et al. 2020), (B, H, W, 3) in [0, 1]: O z_near/z, near white, nothing black.

    distance (B, H, W): along the rays, world units, 0 where nothing is; opacity O (B, H, W). z: distance along the viewing
    direction; z_near: the smallest of a view's pixels that are at least half opaque. A view without any is black. Gradients reach
    distance and opacity.
    """
    rays = replace(cameras, height=distance.shape[1], width=distance.shape[2]).rays()
    forward = -cameras.camera_to_world[:, :3, 2]
    z = distance * torch.einsum("bhwi,bi->bhw", rays.direction, forward)
    solid = (opacity >= 0.5) & (z > 0)
    near = torch.where(solid, z, torch.inf).amin((1, 2), keepdim=True).detach()  # the scale of the picture, not part of the shape
    shown = (z > 0) & near.isfinite()
    nearness = torch.where(shown, near, 0.0) / torch.where(shown, z, 1.0)  # no 0/0, whose gradient would be NaN
    value = opacity * nearness
    return value.clamp(0, 1)[..., None].expand(-1, -1, -1, 3)


def normal_picture(normal: Tensor, opacity: Tensor, cameras: CameraBatch) -> Tensor:
    """Normals seen from the camera: red left, green up, blue towards it, each (n + 1)/2. (B, H, W, 3) in [0, 1].

    These are the colours of NYU-V2's normals, which ControlNet 1.1's Normal-BAE model reads. normal (B, H, W, 3): in world
    space, of any length, 0 included. opacity O (B, H, W): the share 1 - O shows a wall that faces the camera.
    """
    axes = cameras.camera_to_world[:, :3, :3]
    length = torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    unit = normal / torch.where(length > 0, length, 1)  # no 0/0, and no gradient of 1e12 where there is no normal
    right, up, back = torch.einsum("bji,bhwj->bhwi", axes, unit).unbind(-1)
    wall = torch.zeros_like(opacity), torch.zeros_like(opacity), torch.ones_like(opacity)
    seen = torch.stack([torch.lerp(w, n, opacity) for w, n in zip(wall, (-right, up, back), strict=True)], -1)
    return (seen + 1) / 2
