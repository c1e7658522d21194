"""A signed distance that is a network, on the tetrahedral grid: what it starts as, its closed forms, its gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import PIXELS, config
from surfaces import BoxSurface
from torch import Tensor

from dfw import DivergedError, Mesh, Progress, Surface, SurfacePoints
from dfw.compose import compose
from dfw.runs.start import make_trainer
from dfw.testing.experimental_device import stand_in
from dfw_geometry.encodings import DenseGridConfig
from dfw_geometry.hash_grid import HashGridConfig
from dfw_geometry.material_field import MaterialField
from dfw_geometry.networks import NetworkConfig
from dfw_geometry.tet_field import TetField
from dfw_geometry.tets import Tets

GRID = HashGridConfig(levels=3, features=2, log2_size=12, base=4, finest=16)
SMALL = MaterialField.Config(encoding=GRID, network=NetworkConfig(width=8))


def field(seed: int = 0, **options: Any) -> TetField:
    given = {"resolution": 24, "encoding": GRID, "network": NetworkConfig(width=16), "material": SMALL, **options}
    made = TetField(TetField.Config(**given))
    made.initialise(torch.Generator().manual_seed(seed))
    return made


def mesh_of(made: Surface) -> Mesh:
    with torch.no_grad():
        found = made.surface()
    return Mesh(found.vertices.double().numpy(), found.faces.numpy())


def silent(made: TetField) -> TetField:
    """With a network that says 0 everywhere."""
    with torch.no_grad():
        made.network.last.weight.zero_()
    return made


@pytest.mark.parametrize("axes", [(0.5, 0.5, 0.5), (0.7, 0.4, 0.5)])
def test_it_starts_as_an_ellipsoid(axes: tuple[float, float, float]) -> None:
    mesh = mesh_of(field(resolution=32, start_axes=axes))
    assert mesh.watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * math.prod(axes), rel=0.01)
    assert np.linalg.norm(mesh.vertices / axes, axis=1) == pytest.approx(1, abs=0.01)


def test_without_its_network_it_is_the_grid_of_tets() -> None:
    """The same corners and triangles as `tets` with the same distances."""
    axes = (0.47, 0.47, 0.47)  # which no node meets: a distance of 0 is inside in one and not in the other, by rounding
    other = Tets(Tets.Config(resolution=24, material=SMALL, start_axes=axes))
    other.initialise(torch.Generator().manual_seed(0))
    mine, theirs = silent(field(start_axes=axes)).surface(), other.surface()
    assert torch.equal(mine.faces, theirs.faces)
    torch.testing.assert_close(mine.vertices, theirs.vertices, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shift", [-0.2, 0.1])
def test_what_the_network_adds_moves_the_surface(shift: float) -> None:
    """The distance of a sphere plus a constant is that of a sphere of another radius."""
    made = silent(field(resolution=32))
    with torch.no_grad():
        made.network.last.bias[0] = shift
    mesh = mesh_of(made)
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(0.5 - shift, abs=0.005)


def test_its_nodes_move_by_at_most_a_quarter_of_a_cell_along_each_axis() -> None:
    """All nodes shift alike, and the distance is asked where they were: so the sphere shifts."""
    made = silent(field())
    before = mesh_of(made).vertices
    with torch.no_grad():
        made.network.last.bias[1:] = torch.tensor([100.0, 0, -100])
    shift = mesh_of(made).vertices - before
    assert shift == pytest.approx(np.broadcast_to([0.25 * 2 / 24, 0, -0.25 * 2 / 24], shift.shape), abs=1e-6)


def test_gradients_against_differences() -> None:
    """Of a random sum over the corners with respect to every parameter of the shape, in float64."""
    dense = DenseGridConfig(resolutions=(3, 5), features=2)
    made = field(resolution=4, start_axes=(0.4, 0.4, 0.4), encoding=dense, network=NetworkConfig(width=4)).double().eval()
    generator = torch.Generator().manual_seed(3)
    shape = [one for group in made.shape_parameters().values() for one in group]
    with torch.no_grad():
        for one in shape:
            one.add_(0.1 * torch.randn(one.shape, generator=generator))
    weight = torch.randn(len(made.surface().vertices), 3, generator=generator, dtype=torch.float64)

    def value(*parameters: Tensor) -> Tensor:  # gradcheck moves them in place
        return (made.surface().vertices * weight).sum()

    assert torch.autograd.gradcheck(value, shape, eps=1e-7, atol=1e-6)


def test_it_takes_over_a_shape_and_its_colours() -> None:
    """A box of 1 x 0.8 x 1.2, blue above and red below; the network rounds its edges."""
    made = field(resolution=32)
    with torch.no_grad():
        made.start_from(BoxSurface((1, 0.8, 1.2)))
    mesh = mesh_of(made)
    assert mesh.watertight
    assert mesh.volume == pytest.approx(0.96, rel=0.03)
    tops = torch.tensor([[0.1, 0.1, 0.6], [0.1, 0.1, -0.6]])
    with torch.no_grad():
        found = made.material(SurfacePoints(tops)).albedo
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1]]), rtol=0, atol=0.06)


def test_one_of_the_same_options_is_copied() -> None:
    source, made = field(seed=1), field(seed=2)
    with torch.no_grad():
        source.network.last.bias[0] = 0.1
        made.start_from(source)
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in source.state_dict().items())
    other = field(seed=2, resolution=32)
    with torch.no_grad():
        other.start_from(source)
    assert np.linalg.norm(mesh_of(other).vertices, axis=1) == pytest.approx(0.4, abs=0.01)


def test_a_surface_that_vanishes_ends_the_run_with_a_reason() -> None:
    made = silent(field())
    made.dfw_name = "geometry (dreamfw/tet-field)"
    made.begin_step(Progress(7, 10), torch.Generator())
    with torch.no_grad():
        made.network.last.bias[0] = 1
    with pytest.raises(DivergedError, match=r"tet-field\): .* vanished by step 7, .*groups\.geometry\.distance\.encoding\.lr"):
        made.surface()


def test_a_run_moves_the_shape_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Pixels of one colour on a red ball that shall be empty: the ball shrinks."""
    geometry = {"type": "tet-field", "resolution": 12, "encoding": GRID.model_dump(), "material": SMALL.model_dump()}
    changes: dict[str, Any] = {
        "geometry": geometry,
        "renderer": {"type": "mesh"},
        "guidance": None,
        "losses": {"opacity": {"type": "opacity"}},
        "cameras": {"width": 16, "batch_size": 1},
        "optimizer": {"lr": 0.003},
    }
    made = config(PIXELS, tmp_path, **changes, trainer={"steps": 4})
    whole = make_trainer(made, compose(made).build())
    assert isinstance(whole.geometry, TetField)
    before = mesh_of(whole.geometry).volume
    whole.train(lambda: False, lambda record: None)
    assert mesh_of(whole.geometry).volume < 0.99 * before
    first, second = (make_trainer(made, compose(made).build()) for _ in range(2))
    first.train(lambda: first.step == 2, lambda record: None)
    second.restore(first.save(tmp_path / "kept"))
    second.train(lambda: False, lambda record: None)
    assert isinstance(second.geometry, TetField)
    expected = whole.geometry.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.geometry.state_dict().items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real second device")
def test_its_own_part_waits_for_the_device_once_for_the_number_of_nodes() -> None:
    made = field()
    with stand_in() as there:
        made.to(there.device).train()
        there.waits.clear()
        made.surface()
        assert [what for what, where in there.waits if "/tet_field.py" in where] == ["aten._unique2.default"]
