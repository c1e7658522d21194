"""Draws the rendered shape as a picture, in the conventions of the annotators that control networks were trained with.

Legend: B views of H x W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import CameraBatch


def depth_picture(distance: Tensor, opacity: Tensor, cameras: CameraBatch) -> Tensor:
    """Returns disparity O z_near/z as MiDaS shows it (Ranftl et al. 2020), (B, 3, H, W) in [0, 1]: near is white, empty black.

    distance (B, H, W): along the rays, world units, 0 in empty pixels. opacity O: (B, H, W). z is the distance along the viewing
    direction. z_near is the smallest z among a view's pixels that are at least half opaque. A view without such pixels is black.
    """
    rays = replace(cameras, height=distance.shape[1], width=distance.shape[2]).rays()
    forward = -cameras.camera_to_world[:, :3, 2]
    z = distance * torch.einsum("bhwi,bi->bhw", rays.direction, forward)
    solid = (opacity >= 0.5) & (z > 0)
    near = torch.where(solid, z, torch.inf).amin((1, 2), keepdim=True)
    value = torch.where((z > 0) & near.isfinite(), opacity * near / z, torch.zeros_like(z))
    return value.clamp(0, 1)[:, None].expand(-1, 3, -1, -1)


def normal_picture(normal: Tensor, opacity: Tensor, cameras: CameraBatch) -> Tensor:
    """Returns normals as seen from the camera, (n + 1)/2: red left, green up, blue towards it. (B, 3, H, W) in [0, 1].

    These are the colours of NYU-V2's normals, which ControlNet 1.1's Normal-BAE model reads. normal (B, H, W, 3): in world
    space, of any length. opacity O (B, H, W): the share 1 - O shows a wall that faces the camera.
    """
    axes = cameras.camera_to_world[:, :3, :3]
    right, up, back = torch.einsum("bji,bhwj->bihw", axes, F.normalize(normal, dim=-1)).unbind(1)
    wall = torch.zeros_like(opacity), torch.zeros_like(opacity), torch.ones_like(opacity)
    seen = torch.stack([torch.lerp(w, n, opacity) for w, n in zip(wall, (-right, up, back), strict=True)], 1)
    return (seen + 1) / 2
