"""Vehicles, buildings and creatures. All face +x."""

from __future__ import annotations

import torch
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
    gable,
    mirror,
    move,
    sphere,
    turn,
)
from .shape import RGB, Part

TYRE: RGB = (0.15, 0.15, 0.16)
GLASS: RGB = (0.62, 0.82, 0.95)
LIGHT: RGB = (0.98, 0.95, 0.70)
TAIL: RGB = (0.75, 0.08, 0.08)
BEAK: RGB = (0.95, 0.55, 0.10)
EYE: RGB = (0.06, 0.06, 0.07)
ROOF: RGB = (0.45, 0.22, 0.18)
WOOD: RGB = (0.42, 0.27, 0.14)
METAL: RGB = (0.60, 0.61, 0.65)
PALE: RGB = (0.93, 0.91, 0.85)


def car(p: Tensor) -> list[Part]:
    """Car with a bonnet, windows, yellow headlights in front and red lights behind."""
    body = box(move(p, z=-0.08), (0.92, 0.42, 0.2), 0.07)
    cabin = box(move(p, x=-0.2, z=0.26), (0.46, 0.37, 0.22), 0.1)
    sides = box(move(p, x=-0.2, z=0.24), (0.34, 0.385, 0.11), 0.03)
    front = box(move(p, x=-0.2, z=0.24), (0.475, 0.29, 0.12), 0.03)
    wheels = cylinder(turn(move(mirror(p, "xy"), 0.54, 0.36, -0.26), "x", 90.0), 0.21, 0.1)
    lights = sphere(move(mirror(p, "y"), 0.88, 0.27, -0.03), 0.1)
    tails = box(move(mirror(p, "y"), -0.9, 0.27, -0.03), (0.05, 0.11, 0.07))
    return [(body, None), (cabin, None), (sides, GLASS), (front, GLASS), (wheels, TYRE), (lights, LIGHT), (tails, TAIL)]


def boat(p: Tensor) -> list[Part]:
    """Boat with its bow to the front, a pale cabin with windows and a funnel."""
    x, y, z = p.unbind(-1)
    flank = 0.36 * x.clamp_min(0.0) * 1.3 + 0.85 * y.abs() - 0.22 * z - 0.40
    hull = torch.maximum(torch.maximum(flank * 0.95, z.abs() - 0.24), x.abs() - 0.95)
    hull = cut(hull, box(move(p, x=-0.1, z=0.3), (0.72, 0.3, 0.14)))
    cabin = box(move(p, x=-0.3, z=0.36), (0.32, 0.26, 0.22), 0.02)
    panes = box(move(p, x=-0.28, z=0.42), (0.32, 0.2, 0.09))
    funnel = cylinder(move(p, x=-0.42, z=0.68), 0.13, 0.2)
    return [(hull, None), (cabin, PALE), (panes, GLASS), (funnel, TYRE)]


def airplane(p: Tensor) -> list[Part]:
    """Airplane with a pale cockpit, grey engines, wings and a tail fin behind."""
    body = blend(capsule(p, (0.62, 0.0, 0.0), (-0.45, 0.0, 0.0), 0.19), capsule(p, (-0.3, 0, 0.02), (-0.9, 0, 0.08), 0.09), 0.1)
    wing = box(turn(move(mirror(p, "y"), 0.0, 0.5, -0.02), "z", 12.0), (0.21, 0.45, 0.06), 0.03)
    fin = box(turn(move(p, -0.84, 0.0, 0.3), "y", -20.0), (0.14, 0.06, 0.26), 0.03)
    tail = box(move(p, -0.86, 0.0, 0.1), (0.13, 0.36, 0.055), 0.03)
    glass = ellipsoid(move(p, 0.66, 0.0, 0.1), (0.16, 0.15, 0.12))
    engines = cylinder(turn(move(mirror(p, "y"), 0.16, 0.42, -0.13), "y", 90.0), 0.1, 0.16)
    return [(body, None), (wing, None), (fin, None), (tail, None), (glass, GLASS), (engines, METAL)]


def rocket(p: Tensor) -> list[Part]:
    """Standing rocket with a grey nose and fins, and a window at the front."""
    body = cylinder(move(p, z=-0.1), 0.3, 0.5, 0.04)
    nose = cone(move(p, z=0.63), 0.3, 0.03, 0.26)
    fins = common(box(move(p, z=-0.52), (0.62, 0.07, 0.3)), (p[..., 0].abs() * 0.8 + (p[..., 2] + 0.35) * 0.6) - 0.32)
    cross = common(box(move(p, z=-0.52), (0.07, 0.62, 0.3)), (p[..., 1].abs() * 0.8 + (p[..., 2] + 0.35) * 0.6) - 0.32)
    window = sphere(move(p, 0.24, 0.0, 0.12), 0.16)
    flame = cone(move(p, z=-0.72), 0.1, 0.2, 0.14)
    return [(body, None), (nose, METAL), (fins, METAL), (cross, METAL), (window, GLASS), (flame, BEAK)]


def house(p: Tensor) -> list[Part]:
    """House with walls in the named colour, a gabled roof, a door and two windows in front and a chimney."""
    walls = box(move(p, z=-0.25), (0.52, 0.6, 0.4))
    roof = gable(move(p, z=0.4), 0.68, 0.26, 0.7)
    door = box(move(p, 0.5, 0.0, -0.38), (0.05, 0.15, 0.27))
    panes = box(move(mirror(p, "y"), 0.5, 0.39, -0.18), (0.05, 0.13, 0.14))
    chimney = box(move(p, -0.25, 0.35, 0.55), (0.12, 0.12, 0.25))
    return [(walls, None), (roof, ROOF), (door, WOOD), (panes, GLASS), (chimney, METAL)]


def duck(p: Tensor) -> list[Part]:
    """Rubber duck with an orange beak, eyes and an upturned tail."""
    body = ellipsoid(move(p, z=-0.28), (0.68, 0.5, 0.4))
    tail = cone(turn(move(p, -0.62, 0.0, -0.02), "y", -50.0), 0.25, 0.04, 0.25)
    head = sphere(move(p, 0.36, 0.0, 0.36), 0.34)
    wings = ellipsoid(move(mirror(p, "y"), -0.08, 0.46, -0.22), (0.36, 0.12, 0.2))
    whole = blend(blend(body, head, 0.15), tail, 0.1)
    beak = ellipsoid(move(p, 0.74, 0.0, 0.3), (0.22, 0.2, 0.085))
    eyes = sphere(move(mirror(p, "y"), 0.6, 0.17, 0.48), 0.085)
    return [(whole, None), (wings, None), (beak, BEAK), (eyes, EYE)]


def fish(p: Tensor) -> list[Part]:
    """Fish with eyes and a mouth in front and orange fins behind and above."""
    body = ellipsoid(move(p, x=0.12), (0.68, 0.24, 0.42))
    q = move(p, x=-0.78)
    wedge = common(box(q, (0.22, 0.07, 0.42)), 0.86 * q[..., 2].abs() + 0.5 * (q[..., 0] - 0.12) - 0.12)
    fin = common(box(move(p, -0.02, 0.0, 0.42), (0.3, 0.07, 0.22)), 0.6 * p[..., 0] + 0.8 * (p[..., 2] - 0.42) - 0.14)
    eyes = sphere(move(mirror(p, "y"), 0.5, 0.12, 0.12), 0.1)
    mouth = ellipsoid(move(p, 0.78, 0.0, -0.05), (0.08, 0.1, 0.08))
    return [(body, None), (wedge, BEAK), (fin, BEAK), (eyes, EYE), (mouth, TAIL)]


def robot(p: Tensor) -> list[Part]:
    """Robot with glowing eyes and a panel in front, grey arms and legs."""
    trunk = box(move(p, z=-0.08), (0.28, 0.38, 0.36), 0.03)
    head = box(move(p, z=0.54), (0.26, 0.28, 0.22), 0.04)
    arms = box(move(mirror(p, "y"), 0.0, 0.5, -0.06), (0.11, 0.1, 0.34), 0.03)
    legs = box(move(mirror(p, "y"), 0.0, 0.19, -0.66), (0.15, 0.13, 0.26), 0.02)
    eyes = sphere(move(mirror(p, "y"), 0.24, 0.13, 0.58), 0.09)
    panel = box(move(p, 0.27, 0.0, -0.04), (0.04, 0.22, 0.17))
    knob = blend(cylinder(move(p, z=0.8), 0.06, 0.1), sphere(move(p, z=0.9), 0.1), 0.03)
    return [(trunk, None), (head, None), (arms, METAL), (legs, METAL), (eyes, LIGHT), (panel, GLASS), (knob, TAIL)]
