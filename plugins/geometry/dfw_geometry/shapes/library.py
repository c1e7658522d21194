"""The kinds and colours that the vocabulary names."""

from __future__ import annotations

from . import household, solids, vehicles
from .shape import RGB, Shape

COLOURS: dict[str, RGB] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.12, 0.62, 0.18),
    "blue": (0.12, 0.25, 0.85),
    "yellow": (0.95, 0.85, 0.12),
    "purple": (0.50, 0.15, 0.70),
    "orange": (0.95, 0.50, 0.08),
    "white": (0.92, 0.92, 0.92),
    "black": (0.08, 0.08, 0.08),
    "pink": (0.97, 0.55, 0.70),
    "brown": (0.45, 0.27, 0.12),
}
"""Albedo of every colour word."""

SOLIDS = ("cube", "ball", "cylinder", "cone", "pyramid", "donut")
"""The kinds that may stand on one another."""

_ALL = (
    Shape("cube", solids.cube, (0.0, 0.0, 0.0), 0.85, turned=True),
    Shape("ball", solids.ball, (0.0, 0.0, 0.0), 0.51, turned=True),
    Shape("cylinder", solids.cylinder_solid, (0.0, 0.0, 0.0), 0.79, turned=True),
    Shape("cone", solids.cone_solid, (0.0, 0.0, -0.15), 0.80, turned=True),
    Shape("pyramid", solids.pyramid_solid, (0.0, 0.0, -0.4), 0.92, turned=True),
    Shape("donut", solids.donut, (0.0, 0.0, 0.0), 0.82, turned=True),
    Shape("mushroom", solids.mushroom, (0.0, 0.0, 0.1), 0.80, turned=True),
    Shape("tree", solids.tree, (0.0, 0.0, 0.07), 0.94, turned=True),
    Shape("apple", solids.apple, (0.1, 0.0, 0.14), 0.80, turned=True),
    Shape("cake", solids.cake, (0.0, 0.0, 0.0), 0.85),
    Shape("snowman", solids.snowman, (0.0, 0.0, -0.06), 0.93),
    Shape("chair", household.chair, (-0.01, 0.0, 0.1), 1.01),
    Shape("table", household.table, (0.0, 0.0, -0.26), 1.02, turned=True),
    Shape("sofa", household.sofa, (-0.04, 0.0, 0.04), 1.07),
    Shape("mug", household.mug, (0.0, 0.1, 0.0), 0.84),
    Shape("teapot", household.teapot, (0.06, 0.0, 0.14), 1.06),
    Shape("lamp", household.lamp, (0.0, 0.0, -0.05), 0.90, turned=True),
    Shape("bottle", household.bottle, (0.0, 0.0, 0.06), 0.96, turned=True),
    Shape("hammer", household.hammer, (0.03, 0.0, -0.05), 1.02),
    Shape("umbrella", household.umbrella, (0.02, 0.0, -0.1), 0.92, turned=True),
    Shape("car", vehicles.car, (0.0, 0.0, -0.03), 1.03),
    Shape("boat", vehicles.boat, (-0.08, 0.0, 0.13), 1.03),
    Shape("airplane", vehicles.airplane, (-0.13, 0.0, 0.07), 1.02),
    Shape("rocket", vehicles.rocket, (0.0, 0.0, -0.07), 0.97),
    Shape("house", vehicles.house, (0.0, 0.0, -0.01), 1.01),
    Shape("duck", vehicles.duck, (0.08, 0.0, 0.11), 0.92),
    Shape("fish", vehicles.fish, (-0.1, 0.0, 0.0), 0.97),
    Shape("robot", vehicles.robot, (0.0, 0.0, 0.01), 0.99),
)

KINDS: dict[str, Shape] = {shape.name: shape for shape in _ALL}
"""Every kind by its name."""
