"""A geometry that is a surface: its own triangles are exported with its own colours, and decimated only where too many."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from export_fields import exporters, ring
from painted_box import CENTRE, HALF, SIDES, VOLUME, assert_is_the_box, by_assimp
from PIL import Image

from dfw import Material, Surface, SurfacePoints, Triangles
from dfw.config.settings import ExportSettings
from dfw.errors import ExportError
from dfw.export.pipeline import export_mesh


class Box(Surface):
    """A box whose sides have colours of their own, each side a grid of `cells` x `cells` squares."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(CENTRE, dtype=torch.float32))
        self.register_buffer("sides", torch.tensor(HALF, dtype=torch.float32))
        self.register_buffer("colours", torch.tensor(list(SIDES.values())) / 255)
        self.register_buffer("normals", torch.tensor(list(SIDES), dtype=torch.float32))
        self.cells = cells

    def surface(self) -> Triangles:
        step = np.arange(self.cells + 1)
        a, b = (grid.ravel() for grid in np.meshgrid(step, step, indexing="ij"))
        places, faces = [], []
        for normal in np.array(list(SIDES)):
            axis, sign = int(np.flatnonzero(normal)[0]), int(normal.sum())
            place = np.zeros((len(a), 3), int)
            place[:, axis], place[:, (axis + 1) % 3], place[:, (axis + 2) % 3] = (sign > 0) * self.cells, a, b
            index = np.arange(len(a)).reshape(self.cells + 1, -1) + sum(map(len, places))
            one, two, three, four = (part.ravel() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
            made = np.concatenate([np.stack([one, two, three], 1), np.stack([one, three, four], 1)])
            faces.append(made if sign > 0 else made[:, ::-1])
            places.append(place)
        unique, inverse = np.unique(np.concatenate(places), axis=0, return_inverse=True)
        corners = torch.as_tensor(unique / self.cells * 2 - 1, dtype=torch.float32) * self.sides + self.centre
        return Triangles(corners, torch.as_tensor(inverse.ravel()[np.concatenate(faces)]))

    def material(self, at: SurfacePoints) -> Material:
        from_middle = (at.position - self.centre) / self.sides
        return Material(self.colours[(from_middle @ self.normals.T).argmax(-1)])


def exported(cells: int, faces: int, folder: Path):
    cameras = ring(4)
    settings = ExportSettings(texture=128, faces=faces)
    return export_mesh(Box(cells), torch.zeros(4, 64, 64), cameras, settings, exporters("glb"), folder)


def texture_of(path: Path) -> np.ndarray:
    data = path.read_bytes()
    size = struct.unpack("<I", data[12:16])[0]
    tree = json.loads(data[20 : 20 + size])
    view = tree["bufferViews"][tree["images"][0]["bufferView"]]
    return np.asarray(Image.open(io.BytesIO(data[28 + size + view["byteOffset"] :])).convert("RGB"))


def test_its_triangles_and_colours_come_back(tmp_path: Path) -> None:
    result = exported(1, 20_000, tmp_path)
    assert (result.vertices, result.faces, result.level, result.watertight) == (8, 12, None, True)
    assert result.volume == pytest.approx(VOLUME)
    assert "level" not in result.summary()
    assert "Density at the surface" not in result.facts()
    found, _ = by_assimp(result.paths["glb"])
    assert_is_the_box(found, texture_of(result.paths["glb"]), (1, 2, 0))


@pytest.mark.parametrize(("limit", "expected"), [(6 * 2 * 20**2, 6 * 2 * 20**2), (6 * 2 * 20**2 - 1, None), (200, None)])
def test_it_is_decimated_only_above_the_limit(tmp_path: Path, limit: int, expected: int | None) -> None:
    result = exported(20, limit, tmp_path)
    assert result.faces == expected if expected else 12 <= result.faces <= limit
    assert result.watertight
    assert result.volume == pytest.approx(VOLUME, rel=1e-3)
    found, _ = by_assimp(result.paths["glb"])
    seen, texture = found.seen(texture_of(result.paths["glb"])), list(SIDES.values())
    colours = {tuple(colour) for colour in seen.tolist()}
    assert colours == set(texture)
    for outward, colour in zip(found.outward, seen, strict=True):
        side = np.zeros(3)
        side[[1, 2, 0]] = outward
        if side.max() > 0.999 or side.min() < -0.999:
            assert tuple(colour) == SIDES[tuple(int(value) for value in side.round())]


def test_silhouettes_are_compared_with_the_renders(tmp_path: Path) -> None:
    """The box covers 0.8 x 0.5 of the front view at distance 3 - 0.7 or so; an empty render agrees with nothing of it."""
    cameras = ring(1, elevation=0.0)
    rays = cameras.rays()
    low, high = (torch.tensor(CENTRE + sign * HALF, dtype=torch.float32) for sign in (-1, 1))
    enters, leaves = (low - rays.origin) / rays.direction, (high - rays.origin) / rays.direction
    hit = torch.minimum(enters, leaves).amax(-1) < torch.maximum(enters, leaves).amin(-1)
    for opacity, least, most in ((hit.float(), 0.97, 1.0), (torch.zeros_like(hit).float(), 0.0, 0.0)):
        settings = ExportSettings(texture=64)
        result = export_mesh(Box(2), opacity, cameras, settings, exporters("stl"), tmp_path)
        assert least <= result.agreement.silhouette <= most
        assert result.agreement.colour is None


def test_a_surface_without_triangles_is_said(tmp_path: Path) -> None:
    class Nothing(Box):
        def surface(self) -> Triangles:
            return Triangles(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64))

    with pytest.raises(ExportError, match="the surface has no triangles; train longer"):
        export_mesh(Nothing(1), torch.zeros(1, 8, 8), ring(1, side=8), ExportSettings(texture=64), exporters("stl"), tmp_path)
