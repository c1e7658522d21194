"""Traces the world's shapes into antialiased buffers. Colours and lights are applied to them later."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cameras import eye_frame, pixel_rays
from torch import Tensor

from dfw_geometry.shapes import Single, Stack

CHANNELS = 10
"""First colour, second colour, fixed rgb (3), coverage, normal (3), depth: uint8, premultiplied by coverage."""

_RADIUS = 0.92  # every shape fits in this ball, so rays that miss it need no tracing


def trace(distance: Callable[[Tensor], Tensor], origin: Tensor, direction: Tensor, steps: int = 64) -> Tensor:
    """Returns the distance along each ray ``[N, 3]`` to the surface, ``inf`` if it misses. Drops finished rays on the way."""
    depth = torch.full((len(origin),), float("inf"))
    along = (origin * direction).sum(-1)
    gap = along**2 - (origin * origin).sum(-1) + _RADIUS**2
    live = torch.nonzero(gap > 0).squeeze(1)
    t, end = (-along - gap.clamp_min(0).sqrt())[live], (-along + gap.clamp_min(0).sqrt())[live]
    o, d = origin[live].T.contiguous(), direction[live].T.contiguous()
    for step in range(steps):
        value = distance((o + t * d).T)
        hit = value < 1.5e-3
        depth[live[hit]] = t[hit]
        t = t + value
        keep = ~hit & (t < end)
        if step % 2 or step < 2:
            if not bool(keep.any()):
                break
            live, t, end, o, d = live[keep], t[keep], end[keep], o[:, keep], d[:, keep]
    return depth


def normals(distance: Callable[[Tensor], Tensor], points: Tensor, eps: float = 2e-3) -> Tensor:
    """Returns unit normals ``[N, 3]`` by tetrahedral differences of the distance."""
    total = torch.zeros_like(points)
    for k in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        offset = torch.tensor(k, dtype=points.dtype)
        total = total + offset * distance(points + eps * offset)[:, None]
    return total / torch.linalg.vector_norm(total, dim=-1, keepdim=True).clamp_min(1e-9)


def render(form: Single | Stack, cameras: dict[str, Tensor], size: int = 64, samples: int = 2) -> Tensor:
    """Renders ``form`` as seen by ``cameras`` into uint8 buffers ``[V, CHANNELS, size, size]`` (see ``CHANNELS``)."""
    eye, rotation = eye_frame(cameras["azimuth"], cameras["elevation"], cameras["distance"])
    rays = pixel_rays(rotation, cameras["fovy"], size * samples)
    views, full = len(eye), size * samples
    origin = eye[:, None, None].expand_as(rays).reshape(-1, 3)
    direction = rays.reshape(-1, 3)
    depth = trace(form.distance, origin, direction)
    found = torch.nonzero(depth.isfinite()).squeeze(1)
    points = (origin[found] + depth[found, None] * direction[found]).T.contiguous().T
    weights, fixed = form.paint(points)
    near = (cameras["distance"] - 1.0)[:, None, None].expand(-1, full, full).reshape(-1)[found]
    shifted = ((depth[found] - near) / 2.0).clamp(0, 1)[:, None]
    surface = torch.cat((weights, fixed, torch.ones_like(shifted), normals(form.distance, points), shifted), -1)
    out = torch.zeros(views * full * full, CHANNELS)
    out[found] = surface
    out = out.view(views, size, samples, size, samples, CHANNELS).mean((2, 4))
    out[..., 6:9] = (out[..., 6:9] + 1.0) / 2.0
    return (out.permute(0, 3, 1, 2) * 255.0).round().to(torch.uint8)
