"""Front-to-back compositing of projected Gaussians: the plain form, every Gaussian at every pixel, in any floating type.

Legend: B views, N Gaussians, P = H W pixels, C channels. A splat is a row of `SPLAT` numbers: centre (2), conic (3), opacity,
features (4: colour and depth). 3DGS (Kerbl et al. 2023), eq. 3 and appendix C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .projection import ALPHA_MIN

SPLAT = 10
"""Numbers of a splat."""
ALPHA_MAX = 0.99
"""Larger alphas are cut to it, so that light is never lost altogether. 3DGS, appendix C."""
LIGHT_MIN = 1e-4
"""A pixel is finished before the Gaussian that would leave less light than this. 3DGS, appendix C."""


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """(P, 2): x and y of each pixel's centre, row by row, in pixels."""
    rows, columns = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5 for size in (height, width))
    return torch.stack([columns.repeat(height), rows.repeat_interleave(width)], dim=-1)


def alphas(splat_BN: Tensor, pixel_P2: Tensor) -> Tensor:
    """alpha (B, P, N) = o exp(-d^T C^-1 d / 2), at most 0.99 and 0 below 1/255, d from the centre to the pixel."""
    dx, dy = (pixel_P2[None, :, None] - splat_BN[:, None, :, :2]).unbind(-1)
    xx, xy, yy, opacity = splat_BN[:, None, :, 2:6].unbind(-1)
    alpha = (opacity * torch.exp(-0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy)).clamp_max(ALPHA_MAX)
    return torch.where(alpha >= ALPHA_MIN, alpha, 0.0)


def weights(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """w_i = alpha_i prod_{j<i} (1 - alpha_j) along the last axis, front to back, and the light that is left. 3DGS, eq. 3."""
    alpha = torch.where((1 - alpha).cumprod(-1) >= LIGHT_MIN, alpha, 0.0)
    after = (1 - alpha).cumprod(-1)
    before = torch.cat([torch.ones_like(after[..., :1]), after], dim=-1)
    return alpha * before[..., :-1], before[..., -1]


def composite(
    splat_BN: Tensor, depth_BN: Tensor, visible_BN: Tensor, height: int, width: int, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Sums of the features (B, H, W, 4), and the light that is left (B, H, W). `chunk`: pixels at once."""
    order = depth_BN.masked_fill(~visible_BN, torch.inf).argsort(dim=1, stable=True)
    shown = visible_BN.gather(1, order)
    splat = splat_BN.gather(1, order[..., None].expand(-1, -1, SPLAT))
    sums, lights = [], []
    for pixels in torch.split(pixel_centres(height, width, splat_BN), chunk):
        weight, light = weights(torch.where(shown[:, None], alphas(splat, pixels), 0.0))
        sums.append(weight @ splat[..., 6:])
        lights.append(light)
    views = splat_BN.shape[0]
    return torch.cat(sums, 1).view(views, height, width, 4), torch.cat(lights, 1).view(views, height, width)
