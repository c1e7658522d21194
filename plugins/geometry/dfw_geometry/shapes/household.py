"""Things found in a house. All face +x."""

from __future__ import annotations

from torch import Tensor

from .primitives import blend, box, capsule, common, cone, cut, cylinder, ellipsoid, mirror, move, sphere, torus, turn
from .shape import RGB, Part

WOOD: RGB = (0.55, 0.36, 0.18)
METAL: RGB = (0.55, 0.56, 0.60)
CREAM: RGB = (0.95, 0.90, 0.78)
DARK: RGB = (0.12, 0.12, 0.13)
GLOW: RGB = (0.98, 0.93, 0.60)


def chair(p: Tensor) -> list[Part]:
    """Seat and back in the named colour on four wooden legs."""
    seat = box(p, (0.42, 0.42, 0.08), 0.03)
    back = box(move(p, -0.36, 0.0, 0.46), (0.08, 0.42, 0.46), 0.03)
    legs = box(move(mirror(p, "xy"), 0.32, 0.32, -0.36), (0.08, 0.08, 0.36))
    return [(seat, None), (back, None), (legs, WOOD)]


def table(p: Tensor) -> list[Part]:
    """Table top in the named colour on four wooden legs; long from side to side."""
    legs = box(move(mirror(p, "xy"), 0.38, 0.66, -0.38), (0.09, 0.09, 0.38))
    return [(box(p, (0.52, 0.82, 0.09), 0.02), None), (legs, WOOD)]


def sofa(p: Tensor) -> list[Part]:
    """Sofa with a back, two arms, light cushions and dark feet."""
    seat = box(move(p, 0.03, 0.0, -0.18), (0.42, 0.85, 0.2), 0.05)
    back = box(move(p, -0.34, 0.0, 0.12), (0.14, 0.85, 0.48), 0.07)
    arms = box(move(mirror(p, "y"), 0.03, 0.75, 0.0), (0.44, 0.14, 0.32), 0.07)
    cushions = box(move(mirror(p, "y"), 0.1, 0.31, 0.07), (0.33, 0.28, 0.09), 0.05)
    feet = box(move(mirror(p, "xy"), 0.3, 0.7, -0.44), (0.09, 0.09, 0.1))
    return [(seat, None), (back, None), (arms, None), (cushions, CREAM), (feet, DARK)]


def mug(p: Tensor) -> list[Part]:
    """Mug with its handle on the left (+y), coffee in it, and a cream badge on the front."""
    wall = cut(cylinder(p, 0.5, 0.6, 0.04), cylinder(move(p, z=0.35), 0.41, 0.55))
    coffee = cylinder(move(p, z=0.2), 0.44, 0.1)
    handle = cut(torus(turn(move(p, y=0.52), "y", 90.0), 0.32, 0.09), cylinder(p, 0.45, 1.0))
    badge = common(cylinder(p, 0.515, 0.6), cylinder(turn(move(p, x=0.5), "y", 90.0), 0.25, 0.4))
    return [(wall, None), (handle, None), (coffee, (0.25, 0.14, 0.08)), (badge, CREAM)]


def teapot(p: Tensor) -> list[Part]:
    """Teapot with the spout to the front and the handle behind."""
    body = blend(ellipsoid(p, (0.58, 0.58, 0.48)), cylinder(move(p, z=-0.4), 0.34, 0.08, 0.02), 0.08)
    spout = capsule(p, (0.45, 0.0, -0.1), (0.98, 0.0, 0.34), 0.115)
    ring = torus(turn(move(p, -0.6, 0.0, 0.03), "x", 90.0), 0.3, 0.085)
    lid = _lid(p)
    return [(blend(body, spout, 0.1), None), (cut(ring, ellipsoid(p, (0.5, 0.5, 0.4))), None), (lid, CREAM)]


def _lid(p: Tensor) -> Tensor:
    """The teapot's lid with its knob."""
    return blend(ellipsoid(move(p, z=0.42), (0.33, 0.33, 0.13)), sphere(move(p, z=0.6), 0.12), 0.04)


def lamp(p: Tensor) -> list[Part]:
    """Standing lamp: shade in the named colour, metal foot and pole, a glowing bulb below the shade."""
    shade = cut(cone(move(p, z=0.45), 0.58, 0.32, 0.33), cone(move(p, z=0.4), 0.5, 0.24, 0.35))
    foot = cone(move(p, z=-0.78), 0.42, 0.3, 0.07)
    pole = cylinder(move(p, z=-0.2), 0.085, 0.6)
    return [(shade, None), (foot, METAL), (pole, METAL), (sphere(move(p, z=0.42), 0.2), GLOW)]


def bottle(p: Tensor) -> list[Part]:
    """Bottle in the named colour with a cream label and a grey cap."""
    body = blend(cylinder(move(p, z=-0.3), 0.36, 0.55, 0.08), cone(move(p, z=0.4), 0.3, 0.13, 0.22), 0.12)
    neck = cylinder(move(p, z=0.65), 0.13, 0.22)
    label = cylinder(move(p, z=-0.32), 0.375, 0.24)
    return [(blend(body, neck, 0.08), None), (label, CREAM), (cylinder(move(p, z=0.9), 0.17, 0.1, 0.02), METAL)]


def hammer(p: Tensor) -> list[Part]:
    """Standing hammer: wooden shaft, head in the named colour, face to the front and a wedge behind."""
    head = box(move(p, 0.05, 0.0, 0.62), (0.3, 0.15, 0.16), 0.03)
    face = cylinder(turn(move(p, 0.42, 0.0, 0.62), "y", 90.0), 0.21, 0.12, 0.02)
    slope = 0.316 * p[..., 0] - 0.948 * (p[..., 2] - 0.62).abs()
    claw = common(box(move(p, -0.42, 0.0, 0.62), (0.3, 0.13, 0.16)), -(slope + 0.24))
    wedge = common(claw, 0.948 * (p[..., 2] - 0.62).abs() - 0.316 * (p[..., 0] + 0.78))
    shaft = cylinder(move(p, z=-0.2), 0.1, 0.85, 0.03)
    return [(head, None), (face, None), (wedge, None), (shaft, WOOD)]


def umbrella(p: Tensor) -> list[Part]:
    """Open umbrella, its crook to the front."""
    q = move(p, z=0.05)
    dome = cut(ellipsoid(q, (0.85, 0.85, 0.6)), ellipsoid(move(p, z=-0.08), (0.82, 0.82, 0.58)))
    dome = common(dome, -(p[..., 2] - 0.05))
    pole = capsule(p, (0.0, 0.0, 0.72), (0.0, 0.0, -0.72), 0.08)
    hook = common(torus(turn(move(p, 0.19, 0.0, -0.72), "x", 90.0), 0.19, 0.08), p[..., 2] + 0.72)
    return [(dome, None), (pole, WOOD), (hook, WOOD)]
