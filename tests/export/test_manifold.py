"""Cutting touching sheets apart, on surfaces of voxels: closed by construction, and full of shared edges and vertices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage

from dfw.export.decimate import decimate
from dfw.export.grid import DensityGrid
from dfw.export.manifold import cut_apart
from dfw.export.mesh import surface_of
from dfw.interfaces.mesh import Mesh


def voxels(filled: np.ndarray) -> Mesh:
    """Two triangles for each face between a filled unit cube and an empty one, outward; what coincides is one vertex."""
    padded = np.pad(filled, 1)
    quads = []
    for axis in range(3):
        u, v = np.eye(3, dtype=int)[(axis + 1) % 3], np.eye(3, dtype=int)[(axis + 2) % 3]
        for side in (0, 1):
            beyond = np.roll(padded, 1 if side == 0 else -1, axis)
            low = np.argwhere(padded & ~beyond) + side * np.eye(3, dtype=int)[axis]
            ring = [low, low + u, low + u + v, low + v]
            quads.append(np.stack(ring if side else ring[::-1], axis=1))
    corners = np.concatenate(quads)
    vertices, index = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    quad = index.reshape(-1, 4)
    return Mesh(vertices.astype(float), np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]))


def filled(*cells: tuple[int, int, int]) -> np.ndarray:
    grid = np.zeros((3, 3, 3), dtype=bool)
    for cell in cells:
        grid[cell] = True
    return grid


def bodies(mesh: Mesh) -> int:
    return len(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).split(only_watertight=True))


def closed_in_files(mesh: Mesh) -> bool:
    """Also for a reader that joins vertices in the same place."""
    return bool(trimesh.Trimesh(mesh.vertices, mesh.faces, process=True).is_watertight)


def test_a_sound_mesh_is_left_alone() -> None:
    mesh = voxels(filled((0, 0, 0), (1, 0, 0)))
    assert mesh.watertight
    assert mesh.volume == pytest.approx(2)
    assert cut_apart(mesh) is mesh


@pytest.mark.parametrize("other", [(1, 1, 0), (1, 1, 1)])
def test_two_cubes_that_touch_in_an_edge_or_a_corner(other: tuple[int, int, int]) -> None:
    mesh = voxels(filled((0, 0, 0), other))
    assert mesh.watertight == (other == (1, 1, 1))
    cut = cut_apart(mesh)
    assert cut.watertight
    assert closed_in_files(cut)
    assert bodies(cut) == 2
    assert cut.volume == pytest.approx(2, rel=0.02)
    assert len(cut.vertices) == 16


def test_a_ring_that_touches_itself_is_opened_there() -> None:
    """A chain of five cubes whose first and last share an edge."""
    mesh = voxels(filled((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 0)))
    assert not mesh.watertight
    cut = cut_apart(mesh)
    assert cut.watertight
    assert closed_in_files(cut)
    assert bodies(cut) == 1
    assert cut.volume == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_random_voxels(seed: int) -> None:
    """One body for each set of cubes that are joined by faces, their cavities apart, however they touch otherwise.

    Some of their edges can be parted only by dividing them: one fan of faces runs around both ends.
    """
    grid = np.random.default_rng(seed).random((7, 7, 7)) < (0.25, 0.4, 0.5, 0.7)[seed]
    mesh = voxels(grid)
    assert not mesh.watertight
    cut = cut_apart(mesh)
    assert cut.watertight
    assert closed_in_files(cut)
    assert cut.volume == pytest.approx(grid.sum(), rel=0.03)
    solids = ndimage.label(grid)[1]
    holes = ndimage.label(~np.pad(grid, 1), np.ones((3, 3, 3)))[1] - 1
    assert bodies(cut) == solids + holes


def test_faces_back_to_back_enclose_nothing() -> None:
    mesh = voxels(filled((0, 0, 0)))
    flap = np.array([mesh.faces[0], mesh.faces[0][[1, 0, 2]]])
    whole = cut_apart(Mesh(mesh.vertices, np.concatenate([mesh.faces, flap])))
    assert whole.watertight
    assert whole.volume == pytest.approx(1)
    assert len(whole.faces) == 12


def test_a_hole_stays_a_hole() -> None:
    mesh = voxels(filled((0, 0, 0), (1, 1, 0)))
    assert not cut_apart(Mesh(mesh.vertices, mesh.faces[1:])).watertight


@pytest.mark.parametrize("share", [0.4, 0.1, 0.03])
def test_decimated_noise_stays_closed(share: float) -> None:
    """The worst of surfaces, thinned until its sheets touch in hundreds of places."""
    values = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(3))
    mesh = surface_of(DensityGrid(values, 1.0), None, 0.6, min_share=0, fill_cavities=False)
    small = decimate(mesh, int(share * len(mesh.faces)))
    assert small.watertight
    assert closed_in_files(small)
    assert len(small.faces) < 1.3 * share * len(mesh.faces) + 200


def balls(count: int) -> Mesh:
    """Separate closed parts."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.4)
    vertices = np.concatenate([ball.vertices + np.array([part, 0, 0]) for part in range(count)])
    return Mesh(vertices, np.concatenate([ball.faces + part * len(ball.vertices) for part in range(count)]))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("faces", [1, 2, 3, 4, 5, 7])
def test_no_limit_is_so_low_that_nothing_is_left(count: int, faces: int, caplog: pytest.LogCaptureFixture) -> None:
    small = decimate(balls(count), faces)
    assert len(small.faces) >= 4
    assert small.watertight
    assert small.volume > 0
    if len(small.faces) > faces:
        assert caplog.text.count(f"export.faces={faces}: so few triangles leave nothing of this shape; it keeps") == 1


def test_an_open_sheet_is_never_decimated_to_nothing() -> None:
    row, column = np.divmod(np.arange(25), 5)
    grid = Mesh(np.stack([row, column, 0 * row], 1).astype(float), np.array([(i, i + 1, i + 5) for i in range(19) if i % 5 < 4]))
    for faces in range(1, 6):
        assert len(decimate(grid, faces).faces) > 0
