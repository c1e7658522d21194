"""Converts between world axes (z up, front +x) and glTF's (y up, front +z, left +x) by one cyclic permutation."""

from __future__ import annotations

from dfw.interfaces.mesh import Floats


def to_gltf(vectors: Floats) -> Floats:
    """Turns world vectors (..., 3) into glTF's: (x, y, z) becomes (y, z, x). A rotation keeps the winding. glTF 2.0, 3.4."""
    return vectors[..., [1, 2, 0]]


def from_gltf(vectors: Floats) -> Floats:
    """Turns glTF's vectors (..., 3) into world vectors: the inverse of `to_gltf`."""
    return vectors[..., [2, 0, 1]]
