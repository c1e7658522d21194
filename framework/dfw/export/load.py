"""Loads mesh files as triangles with colours and texture coordinates, for scenes that start from one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from dfw.config.settings import Axis
from dfw.errors import ConfigError, one_line
from dfw.export.gltf import check_extensions
from dfw.export.weld import with_area
from dfw.interfaces.mesh import Floats, Ints, Mesh

GREY = 128
AXES = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}
OWN_AXES: dict[str, tuple[Axis, Axis]] = {".ply": ("z", "x"), ".stl": ("z", "x")}
"""Ending -> up and front of files whose format names no axes: those that dfw writes. All others have glTF's."""


@dataclass(frozen=True)
class LoadedMaterial:
    """What some triangles of a file are made of, by the metallic-roughness model of glTF 2.0."""

    texture: NDArray[np.uint8] | None = None
    """(H, W, 3), display-referred base colour, row 0 on top; None where the vertices' colours say it."""
    metallic_roughness: NDArray[np.uint8] | None = None
    """(H, W, 3), G roughness and B metallic, factors of the two below."""
    roughness: float | None = None
    """In [0, 1]; None where the file says nothing."""
    metallic: float | None = None
    """In [0, 1]; None where the file says nothing."""


@dataclass(frozen=True)
class LoadedMesh:
    """The content of a mesh file."""

    mesh: Mesh
    """Its triangles, in world axes (z up, front +x). Vertices are the file's, often several at one place."""
    vertex_colour: NDArray[np.uint8]
    """(V, 3), display-referred; grey if the file has no colours."""
    uv: Floats
    """(V, 2), texture coordinates, origin at the image's lower left; 0 where the file has none. A texture repeats beyond 1."""
    material: Ints
    """(F,), for each triangle its material, an index of `materials`."""
    materials: tuple[LoadedMaterial, ...]
    """One for each object of the file."""
    lost: tuple[str, ...] = ()
    """What of the file is not read, each as what follows its name in a sentence."""


class _Beside:
    """Reads what a mesh file names next to itself, such as an OBJ's materials, and remembers what is not there."""

    def __init__(self, resolver: Any) -> None:
        self.resolver, self.lost = resolver, dict[str, None]()

    def get(self, name: str) -> Any:
        try:
            return self.resolver.get(name)
        except Exception:  # trimesh goes on without materials and textures, and says nothing
            self.lost[name] = None
            raise

    __getitem__ = get

    def __getattr__(self, name: str) -> Any:
        return getattr(self.resolver, name)


def load_mesh(path: str | Path, up: Axis | None = None, front: Axis | None = None, radius: float | None = None) -> LoadedMesh:
    """Reads an OBJ, GLB, glTF, PLY or STL file. All its objects become one mesh.

    up, front: the file's axes; None: z and x for PLY and STL, as dfw writes them, and glTF's y and z for all others. radius: of
    the ball around the origin that the mesh is moved and scaled into, world units. The middle of its bounding box comes to the
    origin, and its farthest corner to the ball. None keeps the file's size and place. Raises ConfigError if the file cannot be
    read or holds no triangles, or if the axes are not at right angles.
    """
    trimesh: Any = import_module("trimesh")
    path = Path(path).expanduser()
    own_up, own_front = OWN_AXES.get(path.suffix.lower(), ("y", "z"))
    turn = _rotation(up or own_up, front or own_front)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise ConfigError(f"{path}: {what}; give an OBJ, GLB, PLY or STL file")
    lost = check_extensions(path)
    try:
        beside = _Beside(trimesh.resolvers.FilePathResolver(str(path)))
        objects = [_read(shape) for shape in _shapes(trimesh.load_scene(path, resolver=beside, process=False))]
    except Exception as error:  # trimesh also passes on the exceptions of the libraries that it calls
        raise ConfigError(f"{path}: cannot be read as a mesh; give an OBJ, GLB, PLY or STL file ({one_line(error)})") from error
    if not sum(len(one.mesh.faces) for one in objects):
        raise ConfigError(f"{path}: holds no triangles; give a mesh, not points or lines")
    found = _joined(objects)
    vertices, faces = found.mesh.vertices, found.mesh.faces
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise ConfigError(f"{path}: is damaged: a corner is NaN or infinite, or a triangle has a corner that is not there")
    if not with_area(vertices, faces).any():
        raise ConfigError(f"{path}: its {len(faces)} triangles are all without area; give another mesh")
    if beside.lost:
        lost.append(f"names {', '.join(beside.lost)}, and there is no such file: the colours that it holds are left out")
    return replace(found, mesh=Mesh(_placed(vertices @ turn.T, radius), faces), lost=tuple(lost))


def _shapes(scene: Any) -> Iterator[Any]:
    """Gives every object with triangles, where the file's scene puts it."""
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        shape = scene.geometry[name]
        if len(getattr(shape, "faces", ())):
            yield shape.copy().apply_transform(transform)


def _read(shape: Any) -> LoadedMesh:
    """Reads one object, which has one material."""
    mesh = Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))
    count = len(mesh.vertices)
    material: Any = getattr(shape.visual, "material", None)
    made, factor = _material(material), _factor(material)
    visual = shape.visual.to_color() if shape.visual.kind == "texture" and count else shape.visual
    colour = np.atleast_2d(np.asarray(visual.vertex_colors if visual.defined else GREY, np.uint8))[:, :3]
    if made.texture is None and factor is not None:
        given = getattr(shape.visual, "vertex_attributes", {}).get("color")
        over = 1.0 if given is None else _linear(np.asarray(given, np.float64)[:, :3] / (255 if given.dtype == np.uint8 else 1))
        colour = np.atleast_2d(_bytes(_display(factor * over)))
    kd = getattr(material, "diffuse", None)  # of an OBJ's MTL file
    if made.texture is None and kd is not None and (kd != type(material)().diffuse).any():
        colour = np.asarray([kd[:3]], np.uint8)
    colour = np.broadcast_to(colour, (count, 3))
    uv = getattr(shape.visual, "uv", None)
    if uv is None or not np.isfinite(uv).all():
        uv, made = np.zeros((count, 2)), replace(made, texture=None, metallic_roughness=None)
    return LoadedMesh(mesh, colour, np.asarray(uv, np.float64), np.zeros(len(mesh.faces), np.int64), (made,))


def _joined(objects: list[LoadedMesh]) -> LoadedMesh:
    starts = np.cumsum([0, *(len(one.mesh.vertices) for one in objects)])
    return LoadedMesh(
        Mesh(
            np.concatenate([one.mesh.vertices for one in objects]),
            np.concatenate([one.mesh.faces + start for one, start in zip(objects, starts, strict=False)]),
        ),
        np.concatenate([one.vertex_colour for one in objects]),
        np.concatenate([one.uv for one in objects]),
        np.repeat(np.arange(len(objects)), [len(one.mesh.faces) for one in objects]),
        tuple(material for one in objects for material in one.materials),
    )


def _material(given: Any) -> LoadedMaterial:
    """Reads a material of glTF, or of an OBJ's MTL file."""
    picture = getattr(given, "baseColorTexture", None) or getattr(given, "image", None)
    texture = None if picture is None else _pixels(picture)
    factor = _factor(given)
    if texture is not None and factor is not None and (factor != 1).any():
        texture = _bytes(_display(_linear(texture / 255.0) * factor))
    if not hasattr(given, "roughnessFactor"):
        return LoadedMaterial(texture)
    both = None if given.metallicRoughnessTexture is None else _pixels(given.metallicRoughnessTexture)
    rough, metal = (1.0 if value is None else float(value) for value in (given.roughnessFactor, given.metallicFactor))
    return LoadedMaterial(texture, both, rough, metal)


def _factor(given: Any) -> Floats | None:
    """Returns glTF's base colour factor (3,), linear; None where a material has none."""
    factor = getattr(given, "baseColorFactor", None)
    return None if factor is None else np.asarray(factor, np.float64)[:3] / 255


def _pixels(picture: Any) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB"), np.uint8)


def _bytes(colour: Floats) -> NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(colour, 0, 1) * 255), np.uint8)


def _linear(display: Floats) -> Floats:
    """Decodes sRGB, IEC 61966-2-1."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def _display(linear: Floats) -> Floats:
    """Encodes sRGB, IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def _rotation(up: Axis, front: Axis) -> Floats:
    """Returns the rotation (3, 3) that turns the file's `up` to z and its `front` to x."""
    for name, axis in (("up", up), ("front", front)):
        if axis not in get_args(Axis):
            raise ConfigError(f"{name}={axis!r} is not an axis; write one of {', '.join(get_args(Axis))}")
    z, x = (np.array(AXES[axis[-1]], np.float64) * (-1 if axis[0] == "-" else 1) for axis in (up, front))
    if abs(float(x @ z)) > 0:
        raise ConfigError(f"up={up!r} and front={front!r} are not at right angles; glTF has up='y', front='z'")
    return np.stack([x, np.cross(z, x), z])


def _placed(vertices: Floats, radius: float | None) -> Floats:
    if radius is None:
        return vertices
    centred = vertices - (vertices.min(0) + vertices.max(0)) / 2
    return np.asarray(centred * (radius / max(float(np.linalg.norm(centred, axis=1).max()), 1e-12)))
