"""A stand-in for nvdiffrast.torch, which needs a GPU: plain torch that keeps the conventions its documentation states.

Clip space is OpenGL's: x / w runs to the right and y / w up, both from -1 to 1, and what lies outside of -1 <= z / w <= 1 is
clipped. Row 0 of an image is its lowest, at y / w = -1. Each pixel holds (u, v, z / w, number) at its centre: u and v are the
perspective-correct coordinates of the triangle's first and second corner, and numbers count from 1. All four are 0 where nothing
is. Tensors are contiguous, positions float32 and triangles int32. It solves each pixel on its own and shares no code with dfw.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RasterizeCudaContext:
    """Needs nothing here."""

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.device = device


def rasterize(
    glctx: RasterizeCudaContext, pos: Tensor, tri: Tensor, resolution: list[int], ranges: None = None, grad_db: bool = True
) -> tuple[Tensor, Tensor]:
    """The picture (B, height, width, 4) of triangles (F, 3) with corners (B, V, 4), and no derivatives."""
    assert isinstance(glctx, RasterizeCudaContext)
    assert ranges is None
    assert (pos.dtype, tri.dtype) == (torch.float32, torch.int32)
    assert pos.is_contiguous()
    assert tri.is_contiguous()
    height, width = resolution
    corners = pos.double()[:, tri.long()][:, None, None]  # (B, 1, 1, F, corner, xyzw)
    x = ((torch.arange(width) + 0.5) * 2 / width - 1).double().view(1, 1, -1, 1, 1)
    y = ((torch.arange(height) + 0.5) * 2 / height - 1).double().view(1, -1, 1, 1, 1)
    across, up = corners[..., 0] - x * corners[..., 3], corners[..., 1] - y * corners[..., 3]
    across, up = torch.broadcast_tensors(across, up)  # the place is where both are 0: at right angles to them
    share = torch.linalg.cross(across, up)
    total = share.sum(-1, keepdim=True)
    share = share / torch.where(total == 0, torch.inf, total)
    z, w = (share * corners[..., 2]).sum(-1), (share * corners[..., 3]).sum(-1)
    depth = z / torch.where(w == 0, torch.inf, w)
    hit = (share >= 0).all(-1) & (total[..., 0] != 0) & (w > 0) & (depth.abs() <= 1)
    depth, face = torch.where(hit, depth, torch.inf).min(-1)
    chosen = share.gather(-2, face[..., None, None].expand(*face.shape, 1, 3))[..., 0, :]
    found = torch.stack([chosen[..., 0], chosen[..., 1], depth, face + 1.0], -1)
    return torch.where(depth.isfinite()[..., None], found, 0.0).float(), torch.empty(*face.shape, 0)
