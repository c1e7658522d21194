"""Signed distance functions of simple solids, and the operators that join them.

Points are tensors ``[..., 3]`` in world units. Every function returns ``[...]`` in the same units, negative inside.
All results are exact distances or 1-Lipschitz bounds of them, so that sphere tracing never oversteps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Vec = Sequence[float]


def vector(values: Vec, like: Tensor) -> Tensor:
    """Returns the tuple ``values`` as a tensor of ``like``'s type and device."""
    return torch.tensor(tuple(values), dtype=like.dtype, device=like.device)


def length(p: Tensor) -> Tensor:
    """Returns the Euclidean norm ``[...]`` of ``[..., 3]``. Its gradient is finite at zero, and it is faster than torch's."""
    return (p * p).sum(-1).clamp_min(1e-20).sqrt()


def planar(a: Tensor, b: Tensor) -> Tensor:
    """Returns the hypotenuse of ``a`` and ``b``, with a finite gradient at zero."""
    return (a * a + b * b).clamp_min(1e-20).sqrt()


def move(p: Tensor, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Tensor:
    """Moves points into the frame of an object whose origin stands at ``(x, y, z)``."""
    return p - vector((x, y, z), p)


def turn(p: Tensor, axis: str, degrees: float) -> Tensor:
    """Turns points into the frame of an object that is turned about ``axis`` by ``degrees`` counter-clockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, z = p.unbind(-1)
    if axis == "x":
        return torch.stack((x, c * y + s * z, c * z - s * y), -1)
    if axis == "y":
        return torch.stack((c * x - s * z, y, s * x + c * z), -1)
    if axis == "z":
        return torch.stack((c * x + s * y, c * y - s * x, z), -1)
    raise ValueError(f"axis must be x, y or z, not {axis!r}")


def mirror(p: Tensor, axes: str) -> Tensor:
    """Folds points into the positive half space of each axis in ``axes``. This copies a part to both sides."""
    return torch.stack([v.abs() if name in axes else v for name, v in zip("xyz", p.unbind(-1), strict=True)], -1)


def sphere(p: Tensor, radius: float) -> Tensor:
    """Ball of the given radius about the origin."""
    return length(p) - radius


def box(p: Tensor, half: Vec, rounding: float = 0.0) -> Tensor:
    """Box of half sizes ``half``. Its edges are rounded by ``rounding``; the outer size stays."""
    q = p.abs() - vector([h - rounding for h in half], p)
    return length(q.clamp_min(0.0)) + q.amax(-1).clamp_max(0.0) - rounding


def _outside(a: Tensor, b: Tensor) -> Tensor:
    """Returns the distance to a two-dimensional corner from the distances to its two faces."""
    return planar(a.clamp_min(0.0), b.clamp_min(0.0)) + torch.maximum(a, b).clamp_max(0.0)


def cylinder(p: Tensor, radius: float, half: float, rounding: float = 0.0) -> Tensor:
    """Upright cylinder of half height ``half``."""
    radial = planar(p[..., 0], p[..., 1]) - (radius - rounding)
    return _outside(radial, p[..., 2].abs() - (half - rounding)) - rounding


def cone(p: Tensor, bottom: float, top: float, half: float) -> Tensor:
    """Upright truncated cone of half height ``half`` with radii ``bottom`` and ``top``."""
    r, z = planar(p[..., 0], p[..., 1]), p[..., 2]
    slope = math.hypot(bottom - top, 2 * half)
    side = ((r - 0.5 * (bottom + top)) * (2 * half) + z * (bottom - top)) / slope
    return torch.maximum(side, z.abs() - half)


def pyramid(p: Tensor, base: float, half: float) -> Tensor:
    """Upright square pyramid: half side ``base`` at the bottom, apex at ``+half``."""
    slope = math.hypot(base, 2 * half)
    reach = torch.maximum(p[..., 0].abs(), p[..., 1].abs())
    side = (reach * (2 * half) + (p[..., 2] - half) * base) / slope
    return torch.maximum(side, -p[..., 2] - half)


def gable(p: Tensor, width: float, half: float, length: float) -> Tensor:
    """Roof prism: ridge along y at ``+half``, half width ``width`` at ``-half``, half length ``length``."""
    slope = math.hypot(width, 2 * half)
    side = (p[..., 0].abs() * (2 * half) + (p[..., 2] - half) * width) / slope
    return torch.maximum(torch.maximum(side, -p[..., 2] - half), p[..., 1].abs() - length)


def torus(p: Tensor, ring: float, tube: float) -> Tensor:
    """Torus about the z axis."""
    return planar(planar(p[..., 0], p[..., 1]) - ring, p[..., 2]) - tube


def capsule(p: Tensor, a: Vec, b: Vec, radius: float) -> Tensor:
    """Segment from ``a`` to ``b`` thickened by ``radius``."""
    start = vector(a, p)
    axis = vector(b, p) - start
    rel = p - start
    t = ((rel * axis).sum(-1) / (axis * axis).sum()).clamp(0.0, 1.0)
    return length(rel - t[..., None] * axis) - radius


def ellipsoid(p: Tensor, radii: Vec) -> Tensor:
    """Ellipsoid with half axes ``radii``. The result is a 1-Lipschitz bound."""
    return (length(p / vector(radii, p)) - 1.0) * min(radii)


def union(*parts: Tensor) -> Tensor:
    """Everything inside any part."""
    out = parts[0]
    for part in parts[1:]:
        out = torch.minimum(out, part)
    return out


def blend(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Union with a seam filleted over ``width``: a quadratic smooth minimum, which keeps the Lipschitz bound."""
    h = (0.5 + 0.5 * (b - a) / width).clamp(0.0, 1.0)
    return b + (a - b) * h - width * h * (1.0 - h)


def cut(a: Tensor, *holes: Tensor) -> Tensor:
    """``a`` without the ``holes``."""
    for hole in holes:
        a = torch.maximum(a, -hole)
    return a


def common(*parts: Tensor) -> Tensor:
    """Only what lies inside every part."""
    out = parts[0]
    for part in parts[1:]:
        out = torch.maximum(out, part)
    return out
