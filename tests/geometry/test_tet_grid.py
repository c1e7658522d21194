"""The body-centred grid against counts, volumes and an enumeration by loops."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from dfw_geometry.tet_grid import (
    cells_of,
    crossed_tetrahedra,
    free_count,
    free_positions,
    halved,
    node_positions,
    on_all_nodes,
    rows_of,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_nodes(cells: int) -> Tensor:
    return torch.arange((cells + 1) ** 3 + cells**3)


def loops(cells: int) -> list[tuple[int, ...]]:
    """All tetrahedra by their definition, as sorted node numbers: two cells that share a face, and an edge of it."""

    def corner(at: list[int]) -> int:
        return (at[0] * (cells + 1) + at[1]) * (cells + 1) + at[2]

    def centre(at: list[int]) -> int:
        return (cells + 1) ** 3 + (at[0] * cells + at[1]) * cells + at[2]

    found = []
    for at in product(range(cells), repeat=3):
        for axis in range(3):
            beyond = list(at)
            beyond[axis] += 1
            if beyond[axis] == cells:
                continue
            others = [k for k in range(3) if k != axis]
            for along, across in (others, others[::-1]):
                for side in (0, 1):
                    first = list(beyond)
                    first[across] += side
                    second = list(first)
                    second[along] += 1
                    found.append(tuple(sorted([centre(list(at)), centre(beyond), corner(first), corner(second)])))
    return found


def test_numbers_and_places_belong_together() -> None:
    """Of 4 cells along each axis: 5^3 corners and 4^3 centres, of which 3^3 and 2^3 are free; a cell is half a unit wide."""
    nodes = all_nodes(4)
    assert len(nodes) == 125 + 64
    assert free_count(4) == 27 + 8
    places, rows = node_positions(nodes, 4, 1.0), rows_of(nodes, 4)
    assert places[0].tolist() == [-1, -1, -1]
    assert places[124].tolist() == [1, 1, 1]
    assert places[126].tolist() == [-0.75, -0.75, -0.25]
    assert sorted(rows[rows >= 0].tolist()) == list(range(35))
    assert torch.equal(free_positions(4, 1.0)[rows[rows >= 0]], places[rows >= 0])
    assert bool((places[rows >= 0].abs() <= 0.5).all())  # neither on the border nor next to it
    assert int((places.abs().amax(-1) <= 0.5).sum()) == 35


@pytest.mark.parametrize("cells", [4, 5, 37, 256])
def test_the_number_of_rows_says_how_many_cells_there_are(cells: int) -> None:
    assert cells_of(free_count(cells)) == cells
    with pytest.raises(ValueError, match="no grid"):
        cells_of(free_count(cells) + 1)


@pytest.mark.parametrize("cells", [3, 5])
def test_crossed_tetrahedra_are_those_of_the_definition(cells: int) -> None:
    inside = torch.rand(free_count(cells), generator=seeded()) < 0.5
    flat = torch.cat([part.flatten() for part in on_all_nodes(inside, cells, False)])
    expected = sorted(one for one in loops(cells) if 0 < sum(bool(flat[node]) for node in one) < 4)
    found = crossed_tetrahedra(inside, cells)
    assert sorted(tuple(sorted(one)) for one in found.tolist()) == expected


def test_all_tetrahedra_have_one_shape() -> None:
    """Sides 1, 1 and four of sqrt(3)/2 cells, and a volume of 1/12 cell; corners in the order of positive volume."""
    cells = 6
    found = crossed_tetrahedra(torch.rand(free_count(cells), generator=seeded()) < 0.5, cells)
    at = node_positions(found, cells, cells / 2)  # cells of side 1
    volume = torch.linalg.det(at[:, 1:] - at[:, :1]) / 6
    assert torch.allclose(volume, torch.full_like(volume, 1 / 12))
    sides = torch.stack([(at[:, a] - at[:, b]).norm(dim=-1) for a in range(4) for b in range(a)], dim=-1).sort(-1).values
    assert torch.allclose(sides, torch.tensor([0.75**0.5] * 4 + [1.0] * 2).expand_as(sides))


def test_a_nodes_tetrahedra_are_complete() -> None:
    """24 around each free node, those next to fixed ones as well: 2 cells' volume."""
    for row in range(free_count(4)):
        inside = torch.zeros(free_count(4), dtype=torch.bool)
        inside[row] = True
        assert len(crossed_tetrahedra(inside, 4)) == 24
    assert len(crossed_tetrahedra(torch.zeros(free_count(4), dtype=torch.bool), 4)) == 0


def test_halving_puts_new_nodes_into_the_middle_of_edges() -> None:
    """The places of a finer grid's nodes are a linear function, except in the middle of the border's faces."""
    places = node_positions(all_nodes(4), 4, 1.0)
    fine, near = halved(places[:125].view(5, 5, 5, 3), places[125:].view(4, 4, 4, 3))
    finer = node_positions(all_nodes(8), 8, 1.0)
    inner = (slice(1, -1),) * 3
    assert torch.allclose(fine[inner], finer[: 9**3].view(9, 9, 9, 3)[inner])
    assert torch.allclose(near, finer[9**3 :].view(8, 8, 8, 3))


def test_halving_splits_edges_and_keeps_old_values() -> None:
    """Old nodes keep their values, and new ones have the mean of the two nodes that they lie between."""
    cells = 4
    values = torch.randn(len(all_nodes(cells)), 1, generator=seeded())
    corners, centres = values[:125].view(5, 5, 5, 1), values[125:].view(4, 4, 4, 1)
    fine, near = halved(corners, centres)
    assert torch.equal(fine[::2, ::2, ::2], corners)
    assert torch.equal(fine[1::2, 1::2, 1::2], centres)
    assert fine[3, 2, 4] == (corners[1, 1, 2] + corners[2, 1, 2]) / 2  # on an edge along x
    assert fine[2, 2, 5] == (corners[1, 1, 2] + corners[1, 1, 3]) / 2  # along z
    assert fine[3, 4, 5] == (centres[1, 1, 2] + centres[1, 2, 2]) / 2  # between two centres, along y
    assert near[2, 3, 5] == (centres[1, 1, 2] + corners[1, 2, 3]) / 2  # from a centre towards a corner
