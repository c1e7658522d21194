"""The search for the nearest triangle of each pixel through nvdiffrast (Laine et al. 2020), where it is installed.

This replaces `dfw_renderers.rasteriser.nearest`; all that has gradients stays as it is. It has met no GPU yet: tests compare it
with the Warp kernels through a stand-in that keeps nvdiffrast's documented conventions. Imports nvdiffrast only when asked.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from dfw import ConfigError

Rasteriser = Literal["warp", "nvdiffrast"]


def uses_nvdiffrast(rasteriser: Rasteriser, device: torch.device) -> bool:
    """Returns whether nvdiffrast finds the triangles on `device`. Raises ConfigError where it should and cannot."""
    if rasteriser == "warp":
        return False
    missing = "" if find_spec("nvdiffrast") else ", and the package nvdiffrast is not installed"
    if device.type != "cuda" or missing:
        raise ConfigError(
            f"renderer.rasteriser: nvdiffrast needs the package nvdiffrast (0.3.3 or later) and a CUDA device; this run is on "
            f"{device.type}{missing}; install it, or write warp, which shows the same triangles"
        )
    return True


@cache
def _context(device: str) -> Any:
    """Returns the rasteriser of `device`: making one takes long, so it is kept."""
    return import_module("nvdiffrast.torch").RasterizeCudaContext(device=device)


@torch.no_grad()
def nearest(points: Tensor, faces: Tensor, height: int, width: int, near: float) -> tuple[Tensor, Tensor]:
    """As its twin, `dfw_renderers.rasteriser.nearest`, in float32, for at most 2^24 triangles.

    Clip space is (2 x / width, 2 y / height, z - 2 near, z): the near plane lies at -1, infinity at 1. nvdiffrast's row 0 is
    y = -1 and points' y runs down, so rows need no flip. It gives barycentric coordinates of the first two corners, and triangle
    numbers from 1, 0 for none.
    """
    if len(faces) == 0:
        shape = (len(points), height, width)
        return faces.new_full(shape, -1), torch.full(shape, torch.inf, device=points.device)
    x, y, z = points.float().unbind(-1)
    clip = torch.stack([x * (2 / width), y * (2 / height), z - 2 * near, z], dim=-1).contiguous()
    draw = import_module("nvdiffrast.torch").rasterize
    found, _ = draw(_context(str(points.device)), clip, faces.int().contiguous(), resolution=[height, width], grad_db=False)
    u, v, _, number = found.unbind(-1)
    face = number.long() - 1
    view = torch.arange(len(points), device=z.device)[:, None, None, None]
    corner = z[view, faces[face.clamp_min(0)]]
    depth = (torch.stack([u, v, 1 - u - v], dim=-1) * corner).sum(-1)
    return face, torch.where(face >= 0, depth, torch.inf)
