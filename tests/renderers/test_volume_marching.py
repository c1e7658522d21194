"""Where samples lie, against geometry done by hand and a search through all of them."""

import math

import pytest
import torch

from dfw_renderers import marching
from dfw_renderers.fast import marching as fast
from dfw_renderers.marching import Occupancy, everywhere, intersect_box, march

BOTH = pytest.mark.parametrize("march", [marching.march, fast.march], ids=["twin", "fast"])


def cube(origin, direction, half: float = 1.0):
    direction = torch.tensor([direction], dtype=torch.float64)
    corner = torch.full((3,), half, dtype=torch.float64)
    enter, leave = intersect_box(torch.tensor([origin], dtype=torch.float64), direction / direction.norm(), -corner, corner)
    return enter.item(), leave.item()


@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ((3, 0, 0), (-1, 0, 0), (2, 4)),  # straight through two faces
        ((3, 3, 3), (-1, -1, -1), (2 * math.sqrt(3), 4 * math.sqrt(3))),  # along the diagonal
        ((0.5, 0, 0), (1, 0, 0), (0, 0.5)),  # from inside
        ((3, 0.9, -0.9), (-1, 0, 0), (2, 4)),  # parallel to four faces
        ((2, 0, 0), (-1, 1, 0), (math.sqrt(2), math.sqrt(2))),  # touches an edge
    ],
)
def test_where_rays_meet_the_cube(origin, direction, expected):
    assert cube(origin, direction) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("origin", "direction"),
    [
        ((3, 1.5, 0), (-1, 0, 0)),  # parallel to a face, outside of it
        ((3, 0, 0), (1, 0, 0)),  # away from it
        ((3, 0, 0), (0, 1, 0)),  # past it
        ((3, 0, 0), (-1, 1, 0)),
    ],
)
def test_rays_that_miss(origin, direction):
    enter, leave = cube(origin, direction)
    assert leave <= enter


def test_a_ray_within_a_face_gives_no_nan():
    enter, leave = cube((3, 1, 0), (-1, 0, 0))
    assert math.isfinite(enter)
    assert math.isfinite(leave)


def random_rays(count: int, seed: int = 0, dtype=torch.float64):
    """Rays from a sphere of radius 3 to points within 1.2 of the origin."""
    g = torch.Generator().manual_seed(seed)
    origin = torch.nn.functional.normalize(torch.randn(count, 3, generator=g, dtype=dtype), dim=-1) * 3
    target = (2 * torch.rand(count, 3, generator=g, dtype=dtype) - 1) * 1.2
    return origin, torch.nn.functional.normalize(target - origin, dim=-1)


@BOTH
def test_samples_are_equally_spaced_from_where_the_cube_is_entered(march):
    origin, direction = torch.tensor([[3.0, 0.2, 0.1]]), torch.tensor([[-1.0, 0.0, 0.0]])
    samples = march(origin, direction, everywhere(1.0, origin), 0.25, 0.5)
    assert samples.distance.tolist() == pytest.approx([2.125 + 0.25 * k for k in range(8)])
    assert samples.length.tolist() == pytest.approx([0.25] * 8)
    assert samples.ray.tolist() == [0] * 8
    shifted = march(origin, direction, everywhere(1.0, origin), 0.25, torch.tensor([0.2]))
    assert shifted.distance.tolist() == pytest.approx([2.05 + 0.25 * k for k in range(8)])


def test_samples_are_sorted_and_inside_the_cube():
    origin, direction = random_rays(200)
    samples = march(origin, direction, everywhere(1.0, origin), 0.07)
    points = origin[samples.ray] + samples.distance[:, None] * direction[samples.ray]
    assert points.abs().max() <= 1 + 1e-9
    order = samples.ray.double() * 100 + samples.distance
    assert (order.diff() > 0).all()
    corner = torch.ones(3, dtype=torch.float64)
    enter, leave = intersect_box(origin, direction, -corner, corner)
    chord = (leave - enter).clamp(min=0)
    count = torch.bincount(samples.ray, minlength=200)
    assert ((count * 0.07 - chord).abs() <= 0.07).all()


@BOTH
def test_a_camera_inside_the_cube_looks_only_ahead(march):
    origin, direction = torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0]])
    samples = march(origin, direction, everywhere(1.0, origin), 0.1)
    assert samples.distance.min() == pytest.approx(0.05)
    assert samples.distance.max() < 1.5


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_only_samples_in_occupied_cells_are_kept_and_none_moves(share):
    origin, direction = random_rays(150)
    size, step = 12, 0.05
    occupied = torch.rand(size, size, size, generator=torch.Generator().manual_seed(5)) < share
    kept = march(origin, direction, Occupancy(1.0, occupied), step, 0.3)
    all_of_them = march(origin, direction, everywhere(1.0, origin), step, 0.3)
    expected = []
    for ray, distance in zip(all_of_them.ray.tolist(), all_of_them.distance.tolist(), strict=True):
        point = origin[ray] + distance * direction[ray]
        i, j, k = (min(size - 1, max(0, math.floor((p + 1) / 2 * size))) for p in point.tolist())
        if occupied[i, j, k]:
            expected.append((ray, distance))
    assert kept.ray.tolist() == [ray for ray, _ in expected]
    assert kept.distance.tolist() == pytest.approx([distance for _, distance in expected], abs=1e-9)


@pytest.mark.parametrize("offset", [0.3, torch.tensor([0.3])])
def test_bundles_of_rays_change_nothing(monkeypatch, offset):
    origin, direction = random_rays(150)
    whole = march(origin, direction, everywhere(1.0, origin), 0.05, offset)
    monkeypatch.setattr(marching, "_PLACES", 1000)
    parts = march(origin, direction, everywhere(1.0, origin), 0.05, offset)
    assert torch.equal(whole.ray, parts.ray)
    assert torch.equal(whole.distance, parts.distance)
    assert torch.equal(whole.length, parts.length)


def test_box_around_the_occupied_cells():
    occupied = torch.zeros(8, 8, 8, dtype=torch.bool)
    low, high = Occupancy(2.0, occupied).box
    assert low.tolist() == high.tolist() == [0, 0, 0]
    occupied[1, 2, 3] = occupied[4, 2, 7] = True
    low, high = Occupancy(2.0, occupied).box
    assert low.tolist() == [-1.5, -1.0, -0.5]
    assert high.tolist() == [0.5, -0.5, 2.0]


@BOTH
def test_samples_behind_opaque_matter_are_dropped(march):
    origin, direction = torch.tensor([[3.0, 0.1, 0.1]]), torch.tensor([[-1.0, 0.0, 0.0]])
    density = torch.full((8, 8, 8), 10.0)
    scene = Occupancy(1.0, torch.ones(8, 8, 8, dtype=torch.bool), density)
    # transmittance before sample k is exp(-10 * 0.1 k): at least 1e-2 for k <= 4.6
    assert len(march(origin, direction, scene, 0.1, 0.5, early_stop=1e-2).ray) == 5
    assert len(march(origin, direction, scene, 0.1, 0.5, early_stop=0.0).ray) == 20


@BOTH
def test_what_is_unoccupied_hides_nothing(march):
    origin, direction = torch.tensor([[3.0, 0.1, 0.1]]), torch.tensor([[-1.0, 0.0, 0.0]])
    occupied = torch.ones(8, 8, 8, dtype=torch.bool)
    occupied[4:] = False  # the half that is nearer to the camera
    scene = Occupancy(1.0, occupied, torch.full((8, 8, 8), 10.0))
    samples = march(origin, direction, scene, 0.1, 0.5, early_stop=1e-2)
    assert samples.distance.tolist() == pytest.approx([3.05, 3.15, 3.25, 3.35, 3.45])


@pytest.mark.parametrize("early_stop", [0.0, 1e-2])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_ray_by_ray_the_same_samples_are_kept(count, share, early_stop):
    """A place within rounding of a cell's face may count to either side; there are none here."""
    origin, direction = random_rays(count, dtype=torch.float32)
    g = torch.Generator().manual_seed(5)
    occupied = torch.rand(24, 24, 24, generator=g) < share
    scene = Occupancy(1.3, occupied, 20 * torch.rand(24, 24, 24, generator=g))
    offset = torch.rand(count, generator=g)
    found, twin = (call(origin, direction, scene, 0.04, offset, early_stop) for call in (fast.march, marching.march))
    assert (len(twin.ray) > 0) == (count > 0 and share > 0)
    assert torch.equal(found.ray, twin.ray)
    assert torch.allclose(found.distance, twin.distance, rtol=1e-6)
    assert torch.equal(found.length, twin.length)


@BOTH
def test_a_density_that_is_no_number_hides_nothing(march):
    origin, direction = torch.tensor([[3.0, 0.1, 0.1]]), torch.tensor([[-1.0, 0.0, 0.0]])
    scene = Occupancy(1.0, torch.ones(8, 8, 8, dtype=torch.bool), torch.full((8, 8, 8), torch.nan))
    assert len(march(origin, direction, scene, 0.1, 0.5, early_stop=1e-2).ray) == 20


def test_the_fast_path_is_for_single_precision_on_the_cpu():
    assert fast.serves(torch.zeros(1, 3))
    assert not fast.serves(torch.zeros(1, 3, dtype=torch.float64))
    assert not fast.serves(torch.zeros(1, 3, device="meta"))


def test_a_ray_with_a_single_sample_has_it() -> None:
    """Rays of a thousand that graze the corners, at steps as long as a quarter of the cube."""
    origin, direction = random_rays(1000)
    origin, direction = origin.float(), direction.float()
    found, twin = (march(origin, direction, everywhere(1.0, origin), 0.5, 0.3) for march in (fast.march, marching.march))
    assert int((torch.bincount(twin.ray) == 1).sum()) > 10
    assert torch.equal(found.ray, twin.ray)
    torch.testing.assert_close(found.distance, twin.distance)
