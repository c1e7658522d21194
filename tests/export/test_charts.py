"""Which texture coordinates can hold a texture of their own, and which triangles of a file are whole."""

from __future__ import annotations

import numpy as np
import pytest

from dfw import Mesh
from dfw.export.charts import why_not
from dfw.export.weld import first_of_each, torn_edges, with_area

SQUARE = np.array([[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def test_charts_side_by_side_are_kept_and_mirrored_ones_too() -> None:
    both = np.concatenate([SQUARE, SQUARE + np.array([0.5, 0])])
    assert why_not(both, np.concatenate([FACES, FACES + 4])) == ""
    assert why_not(both, np.concatenate([FACES, FACES[:, ::-1] + 4])) == ""


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        ([0, 0], "overlap, on 100 % of the picture that they use"),
        ([0.15, 0], "overlap, on 33 % of the picture that they use"),
        ([0.7, 0], "go beyond the picture"),
        (None, "2 of its 4 triangles have no texture coordinates"),
    ],
)
def test_others_are_not(shift: list[float] | None, words: str) -> None:
    second = np.zeros((4, 2)) if shift is None else SQUARE + shift
    assert words in why_not(np.concatenate([SQUARE, second]), np.concatenate([FACES, FACES + 4]))


def test_the_whole_picture_on_each_of_many_triangles_is_an_overlap_that_takes_no_memory() -> None:
    """Each half of a square covers half the picture; on 1024 pixels these 20,000 would be ten billion texels."""
    whole, many = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), 10_000
    faces = np.concatenate([FACES + 4 * k for k in range(many)])
    assert why_not(np.tile(whole, (many, 1)), faces) == "its texture coordinates overlap, and cover the picture 1e+04 times"


def test_none_at_all() -> None:
    assert why_not(np.zeros((4, 2)), FACES) == "it has no texture coordinates"


def test_the_first_of_each_row_in_the_rows_order() -> None:
    first, which = first_of_each(np.array([[3, 1], [0, 0], [3, 1], [2, 2], [0, 0]]))
    assert first.tolist() == [0, 1, 3]
    assert which.tolist() == [0, 1, 0, 2, 1]


def test_triangles_without_area() -> None:
    places = np.array([[0.0, 0, 0], [1000, 0, 0], [0, 1000, 0], [500, 0, 0], [500, 1e-10, 0]])
    assert with_area(places, np.array([[0, 1, 2], [0, 1, 3], [0, 0, 2], [0, 1, 4]])).tolist() == [True, False, False, False]


def test_edges_along_which_triangles_face_opposite_ways() -> None:
    places = np.zeros((4, 3))
    assert torn_edges(Mesh(places, FACES)) == 0
    assert torn_edges(Mesh(places, np.array([[0, 1, 2], [0, 3, 2]]))) == 1
