"""Separate pieces of a mesh that are far smaller than its largest one are left out, and the export says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from export_fields import exporters, ring

from dfw import Material, Surface, SurfacePoints, TextureCoordinates, Triangles
from dfw.config.settings import ExportSettings
from dfw.export.pieces import without_crumbs
from dfw.export.pipeline import export_mesh
from dfw.interfaces.mesh import Mesh


def cubes(*sides: float) -> Mesh:
    """Cubes of the given sides in a row, which do not touch."""
    made = [
        trimesh.creation.box((side,) * 3, trimesh.transformations.translation_matrix([2 * k, 0, 0]))
        for k, side in enumerate(sides)
    ]
    joined = trimesh.util.concatenate(made)
    return Mesh(np.asarray(joined.vertices), np.asarray(joined.faces, np.int64))


@pytest.mark.parametrize(
    ("share", "left", "dropped"),
    [(0.0, [0.05, 1.0, 0.2], 0), (0.002, [0.05, 1.0, 0.2], 0), (0.01, [1.0, 0.2], 1), (0.039, [1.0, 0.2], 1), (0.05, [1.0], 2)],
)
def test_pieces_are_compared_with_the_largest_by_area(share: float, left: list[float], dropped: int) -> None:
    made, count = without_crumbs(cubes(0.05, 1.0, 0.2), share)  # areas of 0.0025, 1 and 0.04 of the largest
    assert count == dropped
    assert made.volume == pytest.approx(sum(side**3 for side in left))
    assert len(made.faces) == 12 * len(left)
    assert len(made.vertices) == 8 * len(left)


def test_equal_pieces_all_stay_even_at_a_share_of_one() -> None:
    mesh = cubes(1.0, 1.0)
    assert without_crumbs(mesh, 1.0) == (mesh, 0)


class Cubes(Surface):
    """Two cubes, one of them with a thousandth of the other's area."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        mesh = cubes(0.5, 0.5 * 0.001**0.5)
        self.register_buffer("places", torch.from_numpy(mesh.vertices).float() - torch.tensor([1.0, 0, 0]))
        self.register_buffer("corners", torch.from_numpy(mesh.faces))
        self.own = own

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {}

    def surface(self) -> Triangles:
        return Triangles(self.places, self.corners)

    def material(self, at: SurfacePoints) -> Material:
        return Material(torch.full_like(at.position, 0.5))

    def texture_coordinates(self) -> TextureCoordinates | None:
        return TextureCoordinates(self.places[:, :2] * 0.3 + 0.5, self.corners) if self.own else None


@pytest.mark.parametrize(("own", "share", "dropped"), [(False, 0.01, 1), (False, 0.0, 0), (True, 0.01, 0)])
def test_the_export_leaves_them_out_and_says_how_many(own: bool, share: float, dropped: int, tmp_path: Path) -> None:
    views = ring(2, side=32)
    settings = ExportSettings(texture=64, smallest_piece=share)
    result = export_mesh(Cubes(own), torch.zeros(2, 32, 32), views, settings, exporters("glb"), tmp_path)
    assert (result.crumbs, result.faces) == (dropped, 24 - 12 * dropped)
    assert result.facts().get("Small pieces left out") == (str(dropped) if dropped else None)
    assert (f"{dropped} small pieces left out" in result.summary()) == bool(dropped)
    found = trimesh.load(result.paths["glb"], force="mesh", process=False)
    assert len(found.faces) == result.faces


def test_triangles_that_meet_without_sharing_vertices_are_one_piece() -> None:
    """A flat-shaded sphere, each triangle with vertices of its own, next to one large triangle: none of it is a crumb."""
    ball = trimesh.creation.icosphere(3)
    faces = np.arange(3 * len(ball.faces)).reshape(-1, 3)
    large = np.array([[0, 0, 5], [9, 0, 5], [0, 9, 5]])
    vertices = np.concatenate([ball.vertices[ball.faces].reshape(-1, 3), large]).astype(np.float32)
    whole = Mesh(vertices, np.concatenate([faces, [[len(vertices) - 3, len(vertices) - 2, len(vertices) - 1]]]).astype(np.int32))
    kept, dropped = without_crumbs(whole, 0.01)
    assert dropped == 0
    assert len(kept.faces) == len(whole.faces)
