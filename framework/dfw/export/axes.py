"""World axes (z up, front +x) and glTF's (y up, front +z, left +x): one cyclic permutation."""

from __future__ import annotations

from dfw.interfaces.mesh import Floats


def to_gltf(vectors: Floats) -> Floats:
    """World (..., 3) -> glTF: (x, y, z) becomes (y, z, x). A rotation: lengths, volumes and winding stay. glTF 2.0, 3.4."""
    return vectors[..., [1, 2, 0]]


def from_gltf(vectors: Floats) -> Floats:
    """glTF (..., 3) -> world, the inverse of `to_gltf`."""
    return vectors[..., [2, 0, 1]]
