"""The nearest point of a mesh, and places between pixels, against closed forms."""

from __future__ import annotations

import pytest
import torch

from dfw import Triangles, bilinear, nearest_on, place_in

CORNERS = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 5], [2, 0, 5], [0, 2, 5]])
TWO = Triangles(CORNERS, torch.tensor([[0, 1, 2], [3, 4, 5]]))


def test_the_nearest_place_inside_on_an_edge_and_at_a_corner() -> None:
    points = torch.tensor([[[0.5, 0.5, 1], [0.5, 0.5, 4]], [[2, 2, 0], [-3, -1, -2]]])
    face, place = nearest_on(TWO, points)
    assert face.tolist() == [[0, 1], [0, 0]]
    expected = torch.tensor([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], [[0, 0.5, 0.5], [1, 0, 0]]])
    torch.testing.assert_close(place, expected)


def test_float64_keeps_its_type_and_no_points_are_no_answers() -> None:
    face, place = nearest_on(TWO, torch.tensor([[0.5, 0.5, 1.0]], dtype=torch.float64))
    assert (face.dtype, place.dtype) == (torch.int64, torch.float64)
    assert nearest_on(TWO, torch.zeros(0, 4, 3))[1].shape == (0, 4, 3)
    with pytest.raises(ValueError, match="no triangle"):
        nearest_on(Triangles(CORNERS, torch.zeros(0, 3, dtype=torch.int64)), torch.zeros(1, 3))


def test_places_have_the_gradients_of_the_closed_form() -> None:
    """Of points dropped onto a plane, in float64, to the points and to the corners."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    points = torch.rand(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    faces, face = torch.tensor([[0, 1, 2]]), torch.zeros(4, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda c, p: place_in(Triangles(c, faces), face, p), (corners, points))
    place = place_in(Triangles(corners, faces), face, points)
    torch.testing.assert_close(place.sum(-1), torch.ones(4, dtype=torch.float64))
    dropped = place @ corners
    a, b, c = corners
    for edge in (b - a, c - a):  # what is lost is at right angles to the plane
        torch.testing.assert_close((points - dropped) @ edge, torch.zeros(4, dtype=torch.float64))


def test_bilinear_between_four_pixels() -> None:
    """The picture's lower left is (0, 0); a pixel's centre has its value, and beyond the outer centres it stays."""
    picture = torch.tensor([[[1.0], [2.0]], [[3.0], [5.0]]], dtype=torch.float64)
    uv = torch.tensor([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [0.5, 0.5], [0.5, 0.25], [0.0, 1.0], [0.625, 0.25]])
    found = bilinear(picture, uv.double())[:, 0]
    assert found.tolist() == pytest.approx([1, 2, 3, 11 / 4, 4, 1, 4.5])
    picture.requires_grad_()
    inside = torch.tensor([[0.4, 0.6], [0.55, 0.3]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bilinear, (picture, inside))
