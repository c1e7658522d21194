"""Rasterisation, UVs and baked colours against answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_fields import BLUE, RED, Analytic, ball, box, front_red
from export_fields import baked as baked_mesh
from scipy.spatial import Delaunay

from dfw.export.agreement import lookup
from dfw.export.charts import unwrap
from dfw.export.mesh import extract_mesh
from dfw.export.raster import Fragments, nearest, rasterise
from dfw.export.texture import surface_albedo
from dfw.interfaces.mesh import Mesh

SIZE = 256


@pytest.fixture(scope="module")
def baked():
    field = Analytic(box((0.6, 0.4, 0.3)), front_red, 100.0, 0.0)
    mesh = extract_mesh(field, 24, 50.0)
    return baked_mesh(field, mesh, SIZE, 2 / 24)


def test_a_right_triangle_covers_the_centres_below_its_diagonal() -> None:
    fragments = rasterise(np.array([[[0.0, 0], [4, 0], [0, 4]]]), 5, 5)
    expected = {row * 5 + column for row in range(5) for column in range(5) if (column + 0.5) + (row + 0.5) <= 4}
    assert set(fragments.pixel.tolist()) == expected
    centre = fragments.pixel.tolist().index(0)
    assert fragments.barycentric[centre] == pytest.approx([0.75, 0.125, 0.125])


@pytest.mark.parametrize("flip", [False, True])
def test_a_triangulation_covers_every_pixel_once(flip: bool) -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.uniform(0, 40, (60, 2)), [[-1, -1], [41, -1], [-1, 41], [41, 41]]])
    triangles = points[Delaunay(points).simplices]
    fragments = rasterise(triangles[:, ::-1] if flip else triangles, 40, 40)
    assert sorted(fragments.pixel.tolist()) == list(range(1600))
    corners = (triangles[:, ::-1] if flip else triangles)[fragments.face]
    rebuilt = (corners * fragments.barycentric[..., None]).sum(axis=1)
    assert np.abs(rebuilt - np.stack([fragments.pixel % 40 + 0.5, fragments.pixel // 40 + 0.5], 1)).max() < 1e-9


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    triangles = np.random.default_rng(1).uniform(-5, 30, (50, 3, 2))
    whole = rasterise(triangles, 24, 24)
    monkeypatch.setattr("dfw.export.raster.BATCH", 100)
    pieces = rasterise(triangles, 24, 24)
    assert np.array_equal(whole.face, pieces.face)
    assert np.array_equal(whole.pixel, pieces.pixel)


def test_triangles_without_area_or_outside_cover_nothing() -> None:
    flat = [[0.0, 0], [3, 3], [6, 6]]
    outside = [[-5.0, -5], [-1, -5], [-5, -1]]
    assert len(rasterise(np.array([flat, outside]), 8, 8).pixel) == 0


def test_the_nearest_fragment_wins() -> None:
    fragments = Fragments(np.array([0, 1, 2, 3]), np.array([5, 5, 2, 5]), np.eye(4)[:, :3])
    kept = nearest(fragments, np.array([3.0, 1.0, 9.0, 2.0]))
    assert kept.pixel.tolist() == [2, 5]
    assert kept.face.tolist() == [2, 1]


def test_uvs_fill_the_square_without_overlap(baked) -> None:
    assert baked.uv.min() >= 0
    assert baked.uv.max() <= 1
    corners = np.stack([baked.uv[:, 0], 1 - baked.uv[:, 1]], axis=1)[baked.faces] * SIZE
    texels = rasterise(corners, SIZE, SIZE, slack=-1e-3)
    assert len(np.unique(texels.pixel)) == len(texels.pixel)
    assert len(texels.pixel) > 0.4 * SIZE**2


def test_unwrapping_is_deterministic(baked) -> None:
    first, second = unwrap(baked.mesh, SIZE), unwrap(baked.mesh, SIZE)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_texture_keeps_positions_and_faces(baked) -> None:
    assert np.array_equal(baked.source[baked.faces], baked.mesh.faces)
    assert np.array_equal(baked.vertices[baked.faces], baked.mesh.corners)
    assert np.linalg.norm(baked.normals, axis=1) == pytest.approx(1)


def test_colours_are_where_they_belong(baked) -> None:
    """The centre of each face shows the field's colour there, to the rounding of a byte, away from where the colours meet."""
    centres = baked.mesh.corners.mean(axis=1)
    fragments = Fragments(np.arange(len(centres)), np.zeros(len(centres), int), np.full((len(centres), 3), 1 / 3))
    seen = lookup(baked, fragments)
    clear = np.abs(centres[:, 0]) > 0.1
    expected = np.where(centres[:, :1] > 0, RED, BLUE)
    assert clear.sum() > 500
    assert np.abs(seen - expected)[clear].max() < 0.5 / 255 + 1e-6
    vertex = np.where(baked.mesh.vertices[:, :1] > 0, RED, BLUE)
    away = np.abs(baked.mesh.vertices[:, 0]) > 0.1
    assert np.abs(baked.vertex_colour / 255 - vertex)[away].max() < 0.5 / 255 + 1e-6


def test_colours_vary_within_a_face() -> None:
    """Colour = position: two large triangles of a square keep it at every texel."""
    field = Analytic(lambda p: p[..., 2].abs() - 0.5, lambda p: (p / 2 + 0.5).clamp(0, 1), 1e4, 0.0)
    corners = np.array([[-0.8, -0.8, 0.5], [0.8, -0.8, 0.5], [0.8, 0.8, 0.5], [-0.8, 0.8, 0.5]])
    textured = baked_mesh(field, Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]])), 64, 1e-3)
    weights = np.random.default_rng(0).dirichlet(np.ones(3) * 3, 200)
    face = np.arange(200) % 2
    places = (corners[textured.mesh.faces[face]] * weights[..., None]).sum(axis=1)
    seen = lookup(textured, Fragments(face, face, weights))
    assert np.abs(seen - (places / 2 + 0.5)).max() < 1.6 / 64 + 1 / 255  # a texel's width of colour


def test_the_gap_between_charts_has_the_neighbours_colours(baked) -> None:
    """Only red, blue and their mixtures: no texel keeps the background's black."""
    texel = baked.texture.reshape(-1, 3) / 255
    along = (texel - BLUE) @ (np.array(RED) - BLUE) / np.sum((np.array(RED) - BLUE) ** 2)
    assert along.min() > -0.01
    assert along.max() < 1.01
    assert np.abs(texel - (BLUE + along[:, None] * (np.array(RED) - BLUE))).max() < 0.01


def test_a_soft_surface_shows_the_colour_a_render_shows() -> None:
    """Constant density s inside, colour = depth: the mean depth of the samples, weighted by T_i alpha_i, written out."""
    cell, density = 0.05, 12.0
    field = Analytic(
        lambda points: points[..., 0] - 0.5, lambda p: (0.5 - p[..., :1]).clamp(0, 1).expand(*p.shape[:-1], 3), density, 0.0
    )
    found = surface_albedo(field, np.array([[0.5, 0, 0]]), np.array([[1.0, 0, 0]]), cell)[0, 0]
    step = 5 * cell / 6
    depth = np.array([-cell + (index + 0.5) * step for index in range(6)])
    inside = (depth >= 0).astype(float)
    before = np.concatenate([[0], np.cumsum(inside * density * step)])[:-1]
    weight = np.exp(-before) * (1 - np.exp(-inside * density * step))
    assert found == pytest.approx((weight * depth).sum() / weight.sum(), abs=1e-5)


def test_where_nothing_is_the_albedo_is_finite() -> None:
    colour = surface_albedo(ball(0.1), np.array([[0.9, 0, 0]]), np.array([[1.0, 0, 0]]), 0.01)
    assert colour[0] == pytest.approx(RED)


def test_baking_leaves_no_gradients() -> None:
    field = ball(0.5)
    field.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
    surface_albedo(field, np.zeros((3, 3)), np.ones((3, 3)), 0.1)
    assert field.unused.grad is None
