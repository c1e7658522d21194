"""From Gaussians in the world to Gaussians on the picture. EWA splatting (Zwicker et al. 2002); 3DGS (Kerbl et al. 2023), sec. 4.

Legend: B views, N Gaussians. View axes: x right, y down, z forward, in pixels on the picture: column j has its centre at j + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dfw import CameraBatch

from .cloud import Cloud

NEAR = 0.05
"""Gaussians whose centre lies less than this before the camera, world units, are not drawn."""
LOW_PASS = 0.3
"""Pixels^2 added to the diagonal of each projected covariance: none is thinner than a pixel. As 3DGS's `computeCov2D`."""
MARGIN = 1.3
"""The projection is linearised no further out than this multiple of the picture's half-width. As 3DGS's `computeCov2D`."""
ALPHA_MIN = 1 / 255
"""Alphas below are not composited. 3DGS, appendix C."""


@dataclass(frozen=True)
class Projected:
    """N Gaussians in B views.

    centre (B, N, 2), pixels; conic (B, N, 3): the entries xx, xy, yy of the inverse covariance, 1/pixels^2; depth (B, N): along
    the viewing axis, world units; visible (B, N): whether any pixel can be touched.
    """

    centre: Tensor
    conic: Tensor
    depth: Tensor
    visible: Tensor


def rotation_matrices(quaternion_N4: Tensor) -> Tensor:
    """Unit quaternions w x y z -> rotation matrices (N, 3, 3)."""
    w, x, y, z = quaternion_N4.unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, dim=-1).view(-1, 3, 3)


def world_to_view(cameras: CameraBatch) -> Tensor:
    """W (B, 3, 3): from world axes to the view's, which OpenGL's are with y and z turned round."""
    right, up, back = cameras.camera_to_world[:, :3, :3].unbind(-1)
    return torch.stack([right, -up, -back], dim=1)


def focal_length(cameras: CameraBatch) -> Tensor:
    """f (B,), pixels, the same in both directions."""
    return cameras.height / 2 / torch.tan(torch.deg2rad(cameras.fov_y) / 2)


def project(cloud: Cloud, cameras: CameraBatch) -> Projected:
    """Centres by perspective, covariances by its derivative J at the centre: J W Sigma W^T J^T + 0.3 I. 3DGS, eq. 5.

    With Sigma = R S S^T R^T (eq. 6) that is A A^T for A = J W R S (2 x 3), so no 3D covariance is formed.
    """
    view = world_to_view(cameras)
    position = torch.einsum("bij,bnj->bni", view, cloud.mean - cameras.position[:, None])
    x, y, depth = position.unbind(-1)
    z = torch.where(depth > NEAR, depth, 1.0)  # those too near are not drawn, and must not divide by zero
    focal = focal_length(cameras)[:, None]
    half = [position.new_full((), size / 2) for size in (cameras.width, cameras.height)]
    centre = torch.stack([focal * x / z + half[0], focal * y / z + half[1]], dim=-1)

    axes = torch.einsum("bij,njk->bnik", view, rotation_matrices(cloud.rotation) * cloud.scale[:, None])  # W R S
    bound_x, bound_y = MARGIN * half[0] / focal, MARGIN * half[1] / focal
    slope_x = torch.minimum(torch.maximum(x / z, -bound_x), bound_x)
    slope_y = torch.minimum(torch.maximum(y / z, -bound_y), bound_y)
    scale = (focal / z)[..., None]  # J = f/z [[1, 0, -x/z], [0, 1, -y/z]]: EWA splatting, eq. 29
    across = scale * (axes[:, :, 0] - slope_x[..., None] * axes[:, :, 2])
    down = scale * (axes[:, :, 1] - slope_y[..., None] * axes[:, :, 2])

    xx = (across * across).sum(-1) + LOW_PASS
    xy = (across * down).sum(-1)
    yy = (down * down).sum(-1) + LOW_PASS
    conic = torch.stack([yy, -xy, xx], dim=-1) / (xx * yy - xy * xy)[..., None]
    with torch.no_grad():
        reach = footprint(xx, yy, cloud.opacity)
        inside = ((centre + reach > 0) & (centre - reach < 2 * torch.stack(half))).all(-1)
        visible = inside & (depth > NEAR) & (cloud.opacity >= ALPHA_MIN)
    return Projected(centre, conic, depth, visible)


def footprint(xx: Tensor, yy: Tensor, opacity_N: Tensor) -> Tensor:
    """Half-widths (..., N, 2), pixels, of the box around the ellipse in which alpha is at least 1/255, for variances (..., N).

    o exp(-q/2) >= 1/255 inside q <= 2 ln(255 o), and the box of q = x^T C^-1 x is sqrt(q C_xx) by sqrt(q C_yy).
    """
    squared = 2 * (opacity_N.clamp_min(ALPHA_MIN).log() - math.log(ALPHA_MIN))
    return torch.stack([(squared * xx).sqrt(), (squared * yy).sqrt()], dim=-1)
