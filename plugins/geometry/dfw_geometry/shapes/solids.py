"""Simple solids, plants and food."""

from __future__ import annotations

from torch import Tensor

from .primitives import (
    blend,
    box,
    capsule,
    common,
    cone,
    cut,
    cylinder,
    ellipsoid,
    mirror,
    move,
    pyramid,
    sphere,
    torus,
    turn,
)
from .shape import RGB, Part

BROWN_WOOD: RGB = (0.42, 0.27, 0.14)
CREAM: RGB = (0.95, 0.90, 0.78)
LEAF: RGB = (0.25, 0.60, 0.20)
CHERRY: RGB = (0.80, 0.10, 0.15)


def cube(p: Tensor) -> list[Part]:
    """A cube."""
    return [(box(p, (0.5, 0.5, 0.5), 0.02), None)]


def ball(p: Tensor) -> list[Part]:
    """A sphere."""
    return [(sphere(p, 0.5), None)]


def cylinder_solid(p: Tensor) -> list[Part]:
    """An upright cylinder, taller than wide."""
    return [(cylinder(p, 0.45, 0.65, 0.02), None)]


def cone_solid(p: Tensor) -> list[Part]:
    """An upright cone."""
    return [(cone(p, 0.62, 0.01, 0.65), None)]


def pyramid_solid(p: Tensor) -> list[Part]:
    """A square pyramid."""
    return [(pyramid(p, 0.65, 0.5), None)]


def donut(p: Tensor) -> list[Part]:
    """A lying torus."""
    return [(torus(p, 0.55, 0.26), None)]


def mushroom(p: Tensor) -> list[Part]:
    """Cap in the named colour on a cream stem."""
    q = move(p, z=0.25)
    cap = cut(ellipsoid(q, (0.75, 0.75, 0.55)), box(move(q, z=-0.6), (1.0, 1.0, 0.6)))
    stem = blend(cylinder(move(p, z=-0.15), 0.2, 0.45, 0.05), ellipsoid(move(p, z=-0.5), (0.3, 0.3, 0.18)), 0.12)
    return [(cap, None), (stem, CREAM)]


def tree(p: Tensor) -> list[Part]:
    """Three lumps of foliage on a trunk."""
    low = blend(sphere(move(p, 0.22, 0.2, 0.25), 0.38), sphere(move(p, -0.25, -0.18, 0.28), 0.38), 0.1)
    crown = blend(low, sphere(move(p, 0.0, 0.0, 0.58), 0.42), 0.1)
    return [(crown, None), (cone(move(p, z=-0.4), 0.2, 0.13, 0.45), BROWN_WOOD)]


def apple(p: Tensor) -> list[Part]:
    """Round with a dimple, a stem and a leaf to the front."""
    body = blend(ellipsoid(move(p, z=0.05), (0.62, 0.62, 0.5)), sphere(move(p, z=-0.2), 0.42), 0.2)
    body = cut(body, sphere(move(p, z=0.68), 0.22))
    stem = capsule(p, (0.0, 0.0, 0.45), (0.0, -0.06, 0.85), 0.07)
    leaf = ellipsoid(turn(move(p, 0.24, 0.0, 0.72), "y", -20.0), (0.26, 0.15, 0.08))
    return [(body, None), (stem, BROWN_WOOD), (leaf, LEAF)]


def cake(p: Tensor) -> list[Part]:
    """Cake with cream on top, a cherry, and a slice missing at the front."""
    slot = 0.573 * (p[..., 0] - 0.1) - 0.819 * p[..., 1].abs()
    base = common(cylinder(move(p, z=-0.1), 0.75, 0.3, 0.03), slot)
    inner = common(cylinder(move(p, z=-0.1), 0.6, 0.28), slot - 0.012)
    cream = common(cylinder(move(p, z=0.26), 0.77, 0.09, 0.03), slot - 0.01)
    return [(base, None), (inner, CREAM), (cream, CREAM), (sphere(move(p, -0.15, 0.0, 0.46), 0.16), CHERRY)]


def snowman(p: Tensor) -> list[Part]:
    """Two balls in the named colour, a hat, eyes, buttons and a carrot nose."""
    body = blend(sphere(move(p, z=-0.5), 0.48), sphere(move(p, z=0.18), 0.34), 0.05)
    nose = cone(turn(move(p, 0.46, 0.0, 0.18), "y", 90.0), 0.1, 0.02, 0.17)
    eyes = sphere(move(mirror(p, "y"), 0.29, 0.13, 0.31), 0.07)
    hat = cylinder(move(p, z=0.47), 0.34, 0.05)
    crown = cylinder(move(p, z=0.64), 0.22, 0.2)
    buttons = sphere(move(p, 0.45, 0.0, -0.36), 0.075)
    more = sphere(move(p, 0.48, 0.0, -0.58), 0.075)
    dark: RGB = (0.1, 0.1, 0.1)
    return [(body, None), (nose, (0.95, 0.5, 0.1)), (eyes, dark), (hat, dark), (crown, dark), (buttons, dark), (more, dark)]
