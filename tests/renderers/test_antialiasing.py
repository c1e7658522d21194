"""Smooth silhouettes: coverage where it is known, and gradients against areas and finely sampled pictures."""

from __future__ import annotations

import math

import pytest
import torch
from surfaces import soup, sphere
from torch import Tensor

from dfw.testing.fields import views
from dfw_renderers import antialiasing, rasteriser

TRIANGLE = torch.tensor([[0, 1, 2]])
SQUARE = torch.tensor([[0, 1, 2], [0, 2, 3]])


def picture(points: Tensor, faces: Tensor, height: int, width: int, values: Tensor | None = None) -> Tensor:
    """Smooth values (B, H, W) of points (B, V, 3): 1 where there is a triangle, or `values` (F,), the triangles' own."""
    face, depth = rasteriser.nearest(points.detach(), faces, height, width)
    turned = rasteriser.turned_away(points.detach(), faces)
    smooth = antialiasing.blend(points, antialiasing.edges_of(faces), turned, face, depth)
    values = points.new_ones(len(faces)) if values is None else values
    return smooth(torch.where(face >= 0, values[face.clamp(min=0)], 0.0).view(-1, 1)).view(face.shape)


def flat(corners: list[tuple[float, float]], depth: float = 1.0) -> Tensor:
    """Points (V, 3) that a view sees at these pixels, right of and below its middle."""
    return torch.tensor([(depth * x, depth * y, depth) for x, y in corners], dtype=torch.float64)


def covered(points: Tensor, faces: Tensor, height: int, width: int, times: int = 16) -> Tensor:
    """The share of each pixel (H, W) that is covered, by times x times samples."""
    finer = points.detach() * points.new_tensor([times, times, 1])
    face, _ = rasteriser.nearest(finer[None], faces, height * times, width * times)
    return (face[0] >= 0).double().unflatten(0, (height, times)).unflatten(2, (width, times)).mean((1, 3))


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, 0.7, 0.99])
def test_upright_and_level_edges_have_exact_coverage(shift: float) -> None:
    """A rectangle at any fraction of a pixel: its sides are shares, and its inside 1. Corners are not exact."""
    left, top, right, bottom = -4.0 + shift, -3.0 + shift / 2, 3.3 + shift, 2.6 + shift / 2
    points = flat([(left, top), (right, top), (right, bottom), (left, bottom)])
    found = picture(points[None], SQUARE, 12, 16)[0]
    expected = covered(points, SQUARE, 12, 16, 100)
    corners = torch.zeros(12, 16, dtype=torch.bool)
    for y in (top, bottom):
        for x in (left, right):
            row, column = math.floor(y + 6), math.floor(x + 8)
            corners[row - 1 : row + 2, column - 1 : column + 2] = True
    assert (found - expected)[~corners].abs().max() < 0.011  # a hundredth, of the samples


def test_slanted_edges_have_nearly_exact_coverage() -> None:
    errors = []
    for turn in range(12):
        angles = torch.tensor([0.0, 2.1, 4.2], dtype=torch.float64) + 0.3 + turn * 0.53
        points = flat([(11.3 * math.cos(a), 11.3 * math.sin(a)) for a in angles])
        expected = covered(points, TRIANGLE, 32, 32)
        found = picture(points[None], TRIANGLE, 32, 32)[0]
        errors.append((found - expected)[(expected > 0) & (expected < 1)].abs().mean())
    assert torch.stack(errors).mean() < 0.03  # without blending it is 0.25
    assert torch.stack(errors).mean() > 0  # corners are not exact


def test_gradients_are_those_of_the_area() -> None:
    """The sum of coverage is the area, with a known derivative: half the opposite side, turned. Corners leave a few per cent."""
    generator = torch.Generator().manual_seed(4)
    errors, total = 0.0, 0.0
    for _ in range(20):
        angles = torch.tensor([0.0, 2.1, 4.2]) + 2 * math.pi * torch.rand(1, generator=generator)
        places = 20 * torch.stack([angles.cos(), angles.sin()], -1) + torch.rand(1, 2, generator=generator)
        places = places.double().requires_grad_()
        points = torch.cat([places, torch.ones(3, 1)], dim=1)
        picture(points[None], TRIANGLE, 64, 64).sum().backward()
        across = places.detach().roll(-1, 0) - places.detach().roll(1, 0)
        expected = 0.5 * torch.stack([across[:, 1], -across[:, 0]], -1)
        assert places.grad is not None
        errors += float((places.grad - expected).norm())
        total += float(expected.norm())
    assert errors / total < 0.06


def test_gradients_are_those_of_a_finely_sampled_picture() -> None:
    """For a smooth weight over the picture, in perspective: central differences of 32 x 32 samples a pixel."""
    corners = torch.tensor([[-9.0, -7.0, 1.0], [10.0, -4.0, 1.3], [-3.0, 9.0, 0.8]], dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    weight = (0.5 + 0.3 * (rows / 9).sin() + 0.2 * (columns / 7).cos()).double()
    moved = corners.clone().requires_grad_()
    (picture(moved[None], TRIANGLE, 32, 32)[0] * weight).sum().backward()
    expected = torch.zeros_like(corners)
    for index in range(9):
        step = torch.zeros(9, dtype=torch.float64)
        step[index] = 0.2 if index % 3 < 2 else 0.02  # about as many pixels for a change of depth
        sides = [(covered(corners + e * step.view(3, 3), TRIANGLE, 32, 32, 48) * weight).sum() for e in (1, -1)]
        expected.view(-1)[index] = (sides[0] - sides[1]) / (2 * step[index])
    assert moved.grad is not None
    for axis in range(3):
        assert float((moved.grad - expected)[:, axis].norm() / expected[:, axis].norm()) < 0.06


@pytest.mark.parametrize(("side", "subdivisions"), [(24, 2), (24, 4), (96, 2), (96, 4)])
def test_a_sphere_grows_by_its_outline_whatever_the_size_of_its_triangles(side: int, subdivisions: int) -> None:
    """d area / d radius = 2 area / radius. At 24 pixels and 5,120 triangles most triangles are smaller than a pixel."""
    vertices, faces = sphere(0.8, subdivisions, torch.float64)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    cameras = views([(20.0, 30.0), (130.0, -10.0)], side, side, dtype=torch.float64)
    area = picture(rasteriser.to_pixels(scale * vertices, cameras), faces, side, side).sum()
    area.backward()
    assert scale.grad is not None
    # seen from a distance of 3 the outline of radius r appears at r / sqrt(9 - r^2): its area grows by 2 / (1 - r^2 / 9)
    assert float(scale.grad / area.detach()) == pytest.approx(2 / (1 - 0.64 / 9), rel=0.05)


def test_gradients_equal_finite_differences_of_the_picture() -> None:
    vertices, faces = sphere(0.6, 0, torch.float64)
    cameras = views([(10.0, 20.0)], 9, 11, dtype=torch.float64)
    moved = vertices.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: picture(rasteriser.to_pixels(v, cameras), faces, 9, 11), (moved,))


def test_edges_that_turn_through_the_diagonal_do_not_jump() -> None:
    """From one thousandth of a degree to the next no pixel changes by 0.001; with pairs of one kind alone one changes by 0.13."""
    frames = []
    for step in range(-40, 41):
        angles = math.radians(0.001 * step) + torch.tensor([0.0, math.pi / 2, math.pi, 3 * math.pi / 2])
        corners = [(0.3 + 7.23 * math.cos(angle), 0.1 + 7.23 * math.sin(angle)) for angle in angles]
        frames.append(picture(flat(corners)[None], SQUARE, 20, 20)[0])
    assert torch.stack(frames).diff(dim=0).abs().max() < 0.001


def test_inner_edges_are_not_blended() -> None:
    whole = flat([(-5.3, -4.1), (6.2, -4.1), (6.2, 5.4), (-5.3, 5.4)])
    split = torch.cat([whole, flat([(0.7, 0.2)])])
    fan = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    values = torch.tensor([0.1, 0.7, 0.3, 0.9], dtype=torch.float64)
    found = picture(split[None], fan, 14, 16, values)[0]
    assert torch.allclose(picture(split[None], fan, 14, 16), picture(whole[None], SQUARE, 14, 16))
    middle = found[4:9, 5:12]
    assert set(middle.unique().tolist()) <= set(values.tolist())


def test_hidden_edges_change_nothing() -> None:
    cover = flat([(-6.0, -6.0), (6.4, -6.0), (6.4, 6.3), (-6.0, 6.3)], 1.0)
    hidden = flat([(-2.2, -3.1), (3.3, 0.4), (-0.4, 3.7)], 2.0)
    both = torch.cat([cover, hidden])[None]
    faces = torch.cat([SQUARE, TRIANGLE + 4])
    values = torch.tensor([1.0, 1.0, 0.3], dtype=torch.float64)
    assert torch.equal(picture(both, faces, 16, 16, values), picture(cover[None], SQUARE, 16, 16))


def test_edges_behind_a_slanted_surface_change_nothing() -> None:
    """Its pixels differ in depth and in colour, and hidden edges pass between them."""
    corners = [(-6.0, -6.0, 1.0), (6.4, -6.0, 1.1), (6.4, 6.3, 1.3), (-6.0, 6.3, 1.2), (0.3, 0.4, 1.0)]
    cover = torch.tensor([(x * z, y * z, z) for x, y, z in corners], dtype=torch.float64)
    fan = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    both = torch.cat(
        [cover, flat([(-4.2, -4.1), (4.3, 0.4), (-0.4, 4.7)], 2.0), flat([(4.2, -4.1), (-4.3, 0.4), (1.4, 4.7)], 3.0)]
    )
    values = torch.tensor([0.1, 0.7, 0.3, 0.9, 0.5, 0.5], dtype=torch.float64)
    faces = torch.cat([fan, TRIANGLE + 5, TRIANGLE + 8])
    assert torch.equal(picture(both[None], faces, 16, 16, values), picture(cover[None], fan, 16, 16, values[:4]))


def test_of_two_edges_between_two_pixels_the_farther_counts() -> None:
    """A rectangle before another: 0.3 and 0.8 of the way to the next pixel. What is seen ends with the second."""
    first = flat([(-5.0, -5.0), (0.8, -5.0), (0.8, 5.0), (-5.0, 5.0)], 1.0)
    second = flat([(-5.0, -5.0), (1.3, -5.0), (1.3, 5.0), (-5.0, 5.0)], 1.5)
    row = picture(torch.cat([first, second])[None], torch.cat([SQUARE, SQUARE + 4]), 16, 16)[0, 8]
    assert row[8:11].tolist() == pytest.approx([1.0, 0.3, 0.0])


def test_edges_before_another_surface_blend_with_it() -> None:
    """A strip before a wall: its sides are mixtures of both, by the share of the strip."""
    wall = flat([(-7.9, -7.9), (7.9, -7.9), (7.9, 7.9), (-7.9, 7.9)], 2.0)
    strip = flat([(-2.3, -6.4), (2.6, -6.4), (2.6, 6.4), (-2.3, 6.4)], 1.0)
    faces = torch.cat([SQUARE, SQUARE + 4])
    values = torch.tensor([0.2, 0.2, 1.0, 1.0], dtype=torch.float64)
    row = picture(torch.cat([wall, strip])[None], faces, 16, 16, values)[0, 8]
    assert row[5].item() == pytest.approx(0.2 + 0.8 * 0.3)  # from -3 to -2, of which the strip covers 0.3
    assert row[10].item() == pytest.approx(0.2 + 0.8 * 0.6)
    assert torch.allclose(row[6:10], torch.ones(4, dtype=torch.float64))


def test_a_needle_between_two_pixels_of_one_triangle_blends_nothing() -> None:
    """No centre shows it, so that its edges would mix the wall's own colours."""
    wall = flat([(-30.0, -30.0), (30.0, -30.0), (0.0, 50.0)], 2.0) + torch.tensor([[0.0, 0.0, 0.5], [0, 0, 0], [0, 0, 0]])
    needle = flat([(0.1, -6.0), (0.2, -6.0), (0.15, 6.0)], 1.0)
    face, depth = rasteriser.nearest(wall[None], TRIANGLE, 16, 16)
    points, faces = torch.cat([wall, needle])[None], torch.cat([TRIANGLE, TRIANGLE + 3])
    assert torch.equal(rasteriser.nearest(points, faces, 16, 16)[0], face)
    smooth = antialiasing.blend(points, antialiasing.edges_of(faces), rasteriser.turned_away(points, faces), face, depth)
    assert torch.equal(smooth(depth.double().view(-1, 1)), depth.double().view(-1, 1))


def test_a_hole_smaller_than_a_pixel_stays_within_the_range() -> None:
    """All four neighbours reach into the pixel; together they are at most the whole of it."""
    outer = [(-5.0, -5.0), (6.0, -5.0), (6.0, 6.0), (-5.0, 6.0)]
    inner = [(0.45, 0.45), (0.55, 0.45), (0.55, 0.55), (0.45, 0.55)]  # each neighbour reaches 0.95 towards the centre
    faces = [face for k in range(4) for face in ((k, (k + 1) % 4, 4 + k), ((k + 1) % 4, 4 + (k + 1) % 4, 4 + k))]
    found = picture(flat(outer + inner)[None], torch.tensor(faces), 16, 16)
    assert found[0, 8, 8].item() == pytest.approx(1)
    for seed in range(5):
        vertices, faces = soup(60, 1.0, seed)
        found = picture(rasteriser.to_pixels(vertices, views([(0.0, 0.0)], 24, 24)), faces, 24, 24)
        assert found.min() >= -1e-6
        assert found.max() <= 1 + 1e-6


def test_triangles_that_reach_behind_the_camera_have_smooth_edges() -> None:
    """A road that begins behind the camera and ends far ahead: its sides run to the vanishing point, x = +-2 y + 0.3."""
    corners = [(-0.5, 0.25, -5.0), (0.5, 0.25, -5.0), (0.5, 0.25, 1e5), (-0.5, 0.25, 1e5)]
    points = torch.tensor([[40 * x + 0.3 * z, 40 * y, z] for x, y, z in corners], dtype=torch.float64, requires_grad=True)
    found = picture(points[None], SQUARE, 20, 60)[0]
    found.sum().backward()
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())
    expected = covered(points, SQUARE, 20, 60)
    edge = (expected > 0) & (expected < 1)
    assert int(edge.sum()) > 20
    assert (found - expected)[edge].abs().mean() < 0.06


def test_edges_of_three_triangles_are_silhouettes_where_all_lie_on_one_side() -> None:
    edges = antialiasing.edges_of(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4], [5, 5, 6]]))
    assert edges.corners.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [5, 5], [5, 6]]
    assert edges.sides.tolist() == [3, 1, 1, 1, 1, 1, 1, 0, 2]
    found = antialiasing.silhouettes(torch.tensor([[True, False, True, True], [True, True, True, True]]), edges)
    shared = (found.edge == 0).nonzero()[:, 0]
    assert found.view[shared].tolist() == [0]


def test_edges_are_known_until_the_triangles_change() -> None:
    known, faces = antialiasing.KnownEdges(), torch.tensor([[0, 1, 2], [0, 2, 3]])
    first = known(faces)
    assert known(faces) is first
    faces[1] = torch.tensor([1, 0, 3])
    assert known(faces).corners.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3]]
    assert known(faces.clone()) is not first
    with torch.inference_mode():
        other = faces.clone()
        assert known(other).corners.tolist() == known(faces).corners.tolist()
        other[1] = 0
        assert known(other).corners.tolist() == [[0, 0], [0, 1], [0, 2], [1, 2]]


def test_points_that_are_not_numbers_raise_nothing() -> None:
    vertices, faces = sphere(0.6, 1)
    vertices[3] = float("nan")
    vertices[5] = float("inf")
    picture(rasteriser.to_pixels(vertices, views([(0.0, 0.0)], 12, 12)), faces, 12, 12)
