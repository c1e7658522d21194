"""Which triangle a pixel shows: against plain torch, against rays solved one by one, and where the answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from surfaces import Painted, soup, sphere, traced

from dfw import load_warp
from dfw.testing.fields import views
from dfw_renderers import rasteriser
from dfw_renderers.fast import raster, raster_kernels
from dfw_renderers.rasteriser import NEAR, NOTHING

ANGLES = ((0.0, 0.0), (90.0, 30.0), (-135.0, -20.0))
FLAT = views([(0.0, 0.0)], 8, 12)


def seen(points: list[tuple[float, float, float]], faces: list[tuple[int, int, int]], height: int = 8, width: int = 12):
    """What a view shows of points given as (pixels right, pixels below the middle, depth)."""
    given = torch.tensor(points, dtype=torch.float64)
    given[:, :2] *= given[:, 2:]
    return rasteriser.nearest(given[None], torch.tensor(faces).view(-1, 3), height, width)


@pytest.mark.parametrize("size", [1.0, 4.0])  # 4: the cameras are among the triangles, and many reach behind them
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_are_their_twin(size: float, dtype: torch.dtype) -> None:
    vertices, faces = soup(120, size, 3, dtype)
    points = rasteriser.to_pixels(vertices, views(ANGLES, 37, 53, dtype=dtype)).double()
    found = raster.nearest(points, faces, 37, 53, NEAR)
    assert (found != NOTHING).double().mean() > 0.4
    assert torch.equal(found, rasteriser.nearest_twin(points, faces, 37, 53, NEAR))


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_shows_what_rays_meet_first(size: float) -> None:
    vertices, faces = soup(60, size, 5, torch.float64)
    cameras = views(ANGLES, 23, 31, dtype=torch.float64)
    face, depth = rasteriser.nearest(rasteriser.to_pixels(vertices, cameras), faces, 23, 31)
    expected = traced(Painted(vertices, faces), cameras)
    beyond = expected["depth"] > 2 * NEAR  # what is nearer than NEAR is not drawn
    same = (face == expected["face"]) | ~beyond
    assert same.double().mean() > 0.998  # triangles that share a corner meet at the same depth there
    ahead = -(cameras.rays().direction * cameras.camera_to_world[:, None, None, :3, 2]).sum(-1)
    shown = beyond & (expected["face"] >= 0)
    assert torch.allclose(depth.double()[shown], (expected["depth"] * ahead)[shown], rtol=1e-6)
    assert bool(torch.isinf(depth[face < 0]).all())


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    vertices, faces = sphere(0.6, 3)
    cameras = views(ANGLES, 61, 40)
    points = rasteriser.to_pixels(vertices, cameras)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = raster.nearest(points, faces, 61, 40, NEAR)
        torch.set_num_threads(threads)
        assert torch.equal(first, raster.nearest(points, faces, 61, 40, NEAR))
    finally:
        torch.set_num_threads(before)


def test_neighbours_leave_no_gap_where_edges_meet_pixel_centres() -> None:
    """A fan around a pixel's centre, whose spokes pass through many others: every pixel of the square is covered."""
    rim = [(-3.5, -3.5), (0.5, -3.5), (4.5, -3.5), (4.5, 0.5), (4.5, 4.5), (0.5, 4.5), (-3.5, 4.5), (-3.5, 0.5)]
    points = [(0.5, 0.5, 2.0), *((x, y, 2.0 + 0.1 * k) for k, (x, y) in enumerate(rim))]
    faces = [(0, 1 + k, 1 + (k + 1) % 8) for k in range(8)]
    face, _ = seen(points, faces, 12, 12)
    covered = face[0] >= 0
    assert bool(covered[3:10, 3:10].all())
    covered[2:11, 2:11] = False  # the rim passes through centres as well, and rounding decides about those
    assert not bool(covered.any())


def test_of_two_at_the_same_depth_the_first_is_shown() -> None:
    square = [(-4.0, -3.0, 1.0), (4.0, -3.0, 1.0), (4.0, 3.0, 1.0)]
    face, _ = seen([*square, *square], [(3, 4, 5), (0, 1, 2), (2, 1, 0)])
    assert set(face.unique().tolist()) == {-1, 0}


def test_the_nearest_is_shown_from_both_sides() -> None:
    front, back = [(-9.0, -9.0, 1.0), (9.0, -9.0, 1.0), (0.0, 20.0, 1.0)], [(-9.0, -9.0, 2.0), (9.0, -9.0, 2.0), (0.0, 20.0, 2.0)]
    for turned in ((3, 4, 5), (3, 5, 4)):
        face, depth = seen([*back, *front], [(0, 1, 2), turned])
        assert face[0, 4, 6] == 1
        assert depth[0, 4, 6] == 1


def test_a_floor_under_the_camera_reaches_from_below_it_to_the_horizon() -> None:
    """Two triangles that extend far behind the camera: each pixel below the horizon has the depth h f / y."""
    far, down = 1e4, 0.7
    corners = [(-far, down, -far), (far, down, -far), (far, down, far), (-far, down, far)]
    focal = 20.0
    points = torch.tensor([[x * focal, y * focal, z] for x, y, z in corners], dtype=torch.float64)
    face, depth = rasteriser.nearest(points[None], torch.tensor([[0, 1, 2], [0, 2, 3]]), 16, 24)
    assert bool((face[0, :8] == -1).all())
    assert bool((face[0, 8:] >= 0).all())
    below = torch.arange(8) + 0.5
    assert torch.allclose(depth[0, 8:].double(), (down * focal / below)[:, None].expand(8, 24).double(), rtol=1e-6)


@pytest.mark.parametrize(
    "corners",
    [
        [(0.0, 0.0, -1.0), (1.0, 0.0, -1.0), (0.0, 1.0, -2.0)],
        [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (3.0, 3.0, 1.0)],
        [(0.0, 0.0, 1.0)] * 3,
        [(float("nan"), 0.0, 1.0), (5.0, 0.0, 1.0), (0.0, 5.0, 1.0)],
        [(float("inf"), 0.0, 1.0), (5.0, 0.0, 1.0), (0.0, 5.0, 1.0)],
        [(500.0, 0.0, 1.0), (505.0, 0.0, 1.0), (500.0, 5.0, 1.0)],
        [(0.0, 0.0, 0.9 * NEAR), (9.0, 0.0, 0.9 * NEAR), (0.0, 9.0, 0.9 * NEAR)],
    ],
    ids=["behind", "edge-on", "a point", "nan", "infinite", "outside", "too near"],
)
def test_what_cannot_be_seen_is_not_drawn(corners: list[tuple[float, float, float]]) -> None:
    face, depth = seen(corners, [(0, 1, 2)])
    assert bool((face == -1).all())
    assert bool(torch.isinf(depth).all())


def test_no_triangles_are_an_empty_picture() -> None:
    face, _ = seen([(0.0, 0.0, 1.0)], [])
    assert bool((face == -1).all())


def test_places_in_triangles_are_those_of_the_rays() -> None:
    vertices, faces = soup(60, 1.0, 9)
    cameras = views(ANGLES, 23, 31)
    face, _ = rasteriser.nearest(rasteriser.to_pixels(vertices, cameras), faces, 23, 31)
    rays = cameras.rays()
    hits = rasteriser.meet(vertices, faces, face, cameras.position, rays.direction)
    assert torch.allclose(hits.barycentric.sum(-1), torch.ones(len(hits.pixel)))
    assert bool((hits.barycentric >= 0).all())
    corners = vertices[faces[hits.face]]
    assert torch.allclose((hits.barycentric[..., None] * corners).sum(1), hits.position, atol=1e-5)
    away = hits.position - cameras.position[hits.view]
    ray = rays.direction.reshape(-1, 3)[hits.pixel]
    assert torch.linalg.cross(away, ray).norm(dim=-1).max() < 2e-4
    assert bool(((away * ray).sum(-1) > 0).all())
    assert torch.equal(hits.face, face.flatten()[hits.pixel])


def test_places_have_the_gradients_of_finite_differences() -> None:
    vertices, faces = sphere(0.6, 0, torch.float64)
    cameras = views(ANGLES[:1], 7, 9, dtype=torch.float64)
    face, _ = rasteriser.nearest(rasteriser.to_pixels(vertices, cameras), faces, 7, 9)

    def places(moved: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hits = rasteriser.meet(moved, faces, face, cameras.position, cameras.rays().direction)
        return hits.barycentric, hits.position

    assert torch.autograd.gradcheck(places, (vertices.clone().requires_grad_(),))


def test_places_never_leave_their_triangle() -> None:
    """Rays that pass beside it, as rounding may let them, are taken to its border: all sides of it are here."""
    vertices = torch.tensor([[0.0, -0.2, -0.2], [0.0, 0.3, -0.1], [0.0, 0.0, 0.25]])
    cameras = views([(0.0, 0.0)], 24, 24)
    shown = torch.zeros(1, 24, 24, dtype=torch.int64)
    hits = rasteriser.meet(vertices, torch.tensor([[0, 1, 2]]), shown, cameras.position, cameras.rays().direction)
    assert bool(((hits.barycentric >= -1e-6) & (hits.barycentric <= 1)).all())
    assert torch.allclose(hits.barycentric.sum(-1), torch.ones(24 * 24))


def test_a_triangle_seen_edge_on_has_finite_places_and_gradients() -> None:
    """In float32 its determinant is rounding; the search in float64 may show it all the same."""
    vertices = torch.tensor([[0.0, -0.5, 0.0], [-1.0, 0.5, 1e-9], [1.0, 0.5, 0.0]], requires_grad=True)
    cameras = views([(0.0, 0.0)], 4, 4)
    shown = torch.zeros(1, 4, 4, dtype=torch.int64)
    hits = rasteriser.meet(vertices, torch.tensor([[0, 1, 2]]), shown, cameras.position, cameras.rays().direction)
    hits.position.sum().backward()
    assert bool(hits.position.isfinite().all())
    assert bool(((hits.barycentric >= -1e-6) & (hits.barycentric <= 1)).all())  # even where the ray misses by rounding
    assert vertices.grad is not None
    assert bool(vertices.grad.isfinite().all())


def test_the_kernels_compile_for_cuda_without_a_device(tmp_path: Path) -> None:
    """Each has an entry point in the PTX of Turing, the oldest architecture that torch's wheels support."""
    raster._kernels("cpu")
    warp = load_warp()
    if 75 not in warp.get_cuda_supported_archs():
        pytest.skip("this build of warp does not compile for CUDA")
    warp.compile_aot_module(raster_kernels, arch=75, module_dir=tmp_path, use_ptx=True)
    (ptx,) = tmp_path.glob("*.ptx")
    assert ptx.read_text().count(".visible .entry") >= 2
