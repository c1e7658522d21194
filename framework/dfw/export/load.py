"""Loads mesh files as triangles with colours, for scenes that start from one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dfw.errors import ConfigError, one_line
from dfw.interfaces.mesh import Floats, Mesh

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
GREY = 128
AXES = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}


@dataclass(frozen=True)
class LoadedMesh:
    """The content of a mesh file."""

    mesh: Mesh
    """Its triangles, in world axes (z up, front +x)."""
    vertex_colour: NDArray[np.uint8]
    """(V, 3), display-referred; grey if the file has no colours."""


def load_mesh(path: str | Path, up: Axis = "y", front: Axis = "z", size: float | None = None) -> LoadedMesh:
    """Reads an OBJ, GLB, glTF, PLY or STL file. All its objects become one mesh.

    up, front: the file's axes, by default glTF's. PLY and STL files of this project have up="z", front="x". size: longest side of
    the bounding box, world units; the box is then centred at the origin. None keeps the file's size. Raises ConfigError if the
    file cannot be read or holds no triangles, or if the axes are not at right angles.
    """
    trimesh: Any = import_module("trimesh")
    path = Path(path).expanduser()
    turn = _rotation(up, front)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise ConfigError(f"{path}: {what}; give an OBJ, GLB, PLY or STL file")
    try:
        shape = trimesh.load(path, force="mesh", process=False)
        vertices, faces = np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64)
        visual = shape.visual.to_color() if shape.visual.kind == "texture" and len(vertices) else shape.visual
        colour = np.asarray(visual.vertex_colors if visual.defined else np.full((len(vertices), 3), GREY), np.uint8)[:, :3]
    except Exception as error:  # trimesh also passes on the exceptions of the libraries that it calls
        raise ConfigError(f"{path}: cannot be read as a mesh; give an OBJ, GLB, PLY or STL file ({one_line(error)})") from error
    if not len(faces):
        raise ConfigError(f"{path}: holds no triangles; give a mesh, not points or lines")
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise ConfigError(f"{path}: is damaged: a corner is NaN or infinite, or a triangle has a corner that is not there")
    return LoadedMesh(Mesh(_placed(vertices @ turn.T, size), faces), colour)


def _rotation(up: Axis, front: Axis) -> Floats:
    """Returns the rotation (3, 3) that turns the file's `up` to z and its `front` to x."""
    for name, axis in (("up", up), ("front", front)):
        if axis not in get_args(Axis):
            raise ConfigError(f"{name}={axis!r} is not an axis; write one of {', '.join(get_args(Axis))}")
    z, x = (np.array(AXES[axis[-1]], np.float64) * (-1 if axis[0] == "-" else 1) for axis in (up, front))
    if abs(float(x @ z)) > 0:
        raise ConfigError(f"up={up!r} and front={front!r} are not at right angles; glTF has up='y', front='z'")
    return np.stack([x, np.cross(z, x), z])


def _placed(vertices: Floats, size: float | None) -> Floats:
    if size is None:
        return vertices
    low, high = vertices.min(0), vertices.max(0)
    return np.asarray((vertices - (low + high) / 2) * (size / max(float((high - low).max()), 1e-12)))
