"""Finds which triangle covers which pixel: one vectorised rasteriser for texture baking and silhouettes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

BATCH = 2**21  # candidate pixels tested together, which bounds the memory


@dataclass(frozen=True)
class Fragments:
    """Pixel centres that triangles cover."""

    face: Ints
    """(P,) index of the triangle."""
    pixel: Ints
    """(P,), row * width + column."""
    barycentric: Floats
    """(P, 3) coordinates of the centre in the triangle."""


def rasterise(triangles: Floats, height: int, width: int, slack: float = 1e-9) -> Fragments:
    """Returns the pixel centres (column + 0.5, row + 0.5) inside each of `triangles` (F, 3, 2), in pixels.

    Triangles may have either orientation. One without area covers nothing. A centre on a shared edge belongs to both faces.
    `slack` widens the triangles, in barycentric units.
    """
    a, b, c = np.moveaxis(triangles.astype(np.float64), 1, 0)
    area = _cross(b - a, c - a)
    low = np.clip(np.ceil(triangles.min(axis=1) - 0.5), 0, [width, height]).astype(np.int64)
    high = np.clip(np.floor(triangles.max(axis=1) - 0.5) + 1, 0, [width, height]).astype(np.int64)
    size = np.where((np.abs(area) > 0)[:, None], np.maximum(high - low, 0), 0)
    boxes = np.concatenate([low, size], axis=1)
    parts = [_covered(faces, (a, b, c), boxes, width, slack) for faces in _batches(size.prod(axis=1))]
    if not parts:
        return Fragments(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3)))
    return Fragments(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _cross(u: Floats, v: Floats) -> Floats:
    return np.asarray(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def _batches(candidates: Ints) -> Iterator[Ints]:
    """Splits faces into runs with about BATCH candidate pixels each."""
    faces = np.flatnonzero(candidates)
    if len(faces):
        cuts = np.flatnonzero(np.diff(np.cumsum(candidates[faces]) // BATCH)) + 1
        yield from np.split(faces, cuts)


def _covered(
    faces: Ints, corners: tuple[Floats, Floats, Floats], boxes: Ints, width: int, slack: float
) -> tuple[Ints, Ints, Floats]:
    """Returns faces, pixels and barycentric coordinates among the candidates in `boxes` (F, 4): left, top, width, height."""
    low, size = boxes[:, :2], boxes[:, 2:]
    count = size[faces].prod(axis=1)
    face = np.repeat(faces, count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = low[face, 1] + within // size[face, 0], low[face, 0] + within % size[face, 0]
    centre = np.stack([column + 0.5, row + 0.5], axis=1)
    barycentric = barycentric_of(np.stack([corner[face] for corner in corners], axis=1), centre)
    inside = (barycentric >= -slack).all(axis=1)
    return face[inside], (row * width + column)[inside], barycentric[inside]


def barycentric_of(triangles: Floats, points: Floats) -> Floats:
    """Returns the barycentric coordinates (P, 3) of `points` (P, 2) in `triangles` (P, 3, 2), which have an area."""
    a, b, c = np.moveaxis(triangles.astype(np.float64), 1, 0)
    area = _cross(b - a, c - a)
    beta, gamma = _cross(points - a, c - a) / area, _cross(b - a, points - a) / area
    return np.stack([1 - beta - gamma, beta, gamma], axis=1)


def nearest(fragments: Fragments, depth: Floats) -> Fragments:
    """Keeps, among fragments that share a pixel, the one of least `depth` (P,), like a z-buffer. Sorts by pixel."""
    order = np.lexsort((depth, fragments.pixel))
    first = order[np.unique(fragments.pixel[order], return_index=True)[1]]
    return Fragments(fragments.face[first], fragments.pixel[first], fragments.barycentric[first])
