"""Finds empty cells that no training view can see, so that hollow shells are exported solid.

A field that is optimised from views has matter only where views need it. That is a thin shell, often open where no camera stood.
A cell that no camera saw empty may as well be solid, and then the object has a volume (the visual hull, Laurentini 1994).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

AZIMUTHS = 24  # every 15 degrees
ELEVATIONS = 6  # from the lowest to 75 degrees; then straight down
ENOUGH = 3  # directions that must see a cell, because a crack in a shell lets in one or two

Bools = NDArray[np.bool_]


def unseen(occupied: Bools, lowest: float) -> Bools:
    """Returns the empty nodes of a grid (X, Y, Z), z up, that fewer than 3 of 145 directions see.

    The directions cover all azimuths, and elevations from `lowest` degrees upwards. Each one is parallel light that occupied
    nodes stop. It moves by whole nodes, so it is straight to half a node.
    """
    count = np.zeros(occupied.shape, dtype=np.uint8)
    for direction in _directions(lowest):
        axis = int(np.argmax(np.abs(direction)))
        turned = np.moveaxis(occupied, axis, 0), np.moveaxis(count, axis, 0)
        if direction[axis] > 0:  # the light comes from the axis's far end
            turned = turned[0][::-1], turned[1][::-1]
        slope = np.delete(direction, axis) / abs(direction[axis])
        _shine(*turned, slope)
    return ~occupied & (count < ENOUGH)


def _shine(occupied: Bools, count: NDArray[np.uint8], slope: NDArray[np.floating[Any]]) -> None:
    """Adds 1 to `count` where light reaches. It enters at slice 0 and moves by -`slope` nodes per slice."""
    depth, rows, columns = occupied.shape
    moves = np.round(-np.arange(depth)[:, None] * slope).astype(int)
    moves -= moves.min(axis=0)
    light = np.ones((rows + moves[:, 0].max(), columns + moves[:, 1].max()), dtype=np.bool_)
    first, second = moves.max(axis=0)[:, None] - moves.T  # the light's coordinates stand still and the slices move
    for index in range(depth):
        window = light[first[index] : first[index] + rows, second[index] : second[index] + columns]
        window &= ~occupied[index]
        count[index] += window


def _directions(lowest: float) -> Iterator[NDArray[np.floating[Any]]]:
    """Yields unit vectors from the object to the eye."""
    for degrees in np.linspace(min(lowest, 60.0), 75.0, ELEVATIONS):
        height = math.sin(math.radians(degrees))
        for turn in range(AZIMUTHS):
            angle = 2 * math.pi * (turn + 0.5) / AZIMUTHS
            flat = math.cos(math.radians(degrees))
            yield np.array([flat * math.cos(angle), flat * math.sin(angle), height])
    yield np.array([0.0, 0.0, 1.0])
