"""The tetrahedral grid as a scene: its starts, its surface, its subdivision, and what it says when there is nothing left."""

from __future__ import annotations

import copy
import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from pydantic import ValidationError
from small_runs import PIXELS, config
from surfaces import BoxSurface
from torch import Tensor

import dfw
from dfw import (
    CameraBatch,
    ComponentConfig,
    ConfigError,
    DivergedError,
    Geometry,
    Loss,
    LossInputs,
    Mesh,
    Progress,
    Renderer,
    RenderOutput,
    Surface,
    SurfacePoints,
    Triangles,
)
from dfw.compose import compose
from dfw.plugins.registry import registry
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import run
from dfw.runs.start import make_trainer
from dfw.runs.trainer import StepRecord
from dfw_geometry.hash_grid import HashGridConfig
from dfw_geometry.material_field import MaterialField
from dfw_geometry.networks import NetworkConfig
from dfw_geometry.sdf_scene import SdfScene
from dfw_geometry.tets import Tets

SMALL = MaterialField.Config(
    encoding=HashGridConfig(levels=2, features=2, log2_size=8, base=4, finest=8), network=NetworkConfig(width=8)
)


def tets(seed: int = 0, **options: Any) -> Tets:
    made = Tets(Tets.Config(**{"resolution": 12, "material": SMALL, **options}))
    made.initialise(torch.Generator().manual_seed(seed))
    return made


def mesh_of(made: Surface) -> Mesh:
    with torch.no_grad():
        found = made.surface()
    return Mesh(found.vertices.double().numpy(), found.faces.numpy())


def shaken(made: Tets, seed: int = 1) -> Tets:
    """With noise on distances and places, so that it is any surface."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.sdf.add_(0.05 * torch.randn(made.sdf.shape, generator=generator))
        made.offsets.copy_(torch.randn(made.offsets.shape, generator=generator))
    return made


def refined(made: Tets) -> Tets:
    """After one subdivision, as the trainer makes it."""
    for one in made._halve():
        one.parameter.data = one.values
    return made


@pytest.mark.parametrize("axes", [(0.5, 0.5, 0.5), (0.7, 0.4, 0.5)])
def test_it_starts_as_an_ellipsoid(axes: tuple[float, float, float]) -> None:
    mesh = mesh_of(tets(resolution=32, start_axes=axes))
    assert mesh.watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * math.prod(axes), rel=0.01)
    assert np.abs(mesh.vertices).max(0) == pytest.approx(axes, rel=0.02)
    assert np.linalg.norm(mesh.vertices / axes, axis=1) == pytest.approx(1, abs=0.01)


def test_a_full_grid_is_closed_inside_the_cube() -> None:
    made = tets(radius=1.5)
    with torch.no_grad():
        made.sdf.fill_(-1)
    mesh = mesh_of(made)
    assert mesh.watertight
    assert np.abs(mesh.vertices).max() < 1.5
    assert mesh.volume > 0.75 * 3**3


def test_any_noise_is_a_closed_surface() -> None:
    """Offsets as large as they can get and signs by chance."""
    made = tets()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        made.sdf.copy_(torch.randn(made.sdf.shape, generator=generator))
        made.offsets.copy_(100 * torch.randn(made.offsets.shape, generator=generator))
    assert mesh_of(made).watertight


def test_offsets_move_corners_by_less_than_half_a_cell() -> None:
    made = tets()
    before = mesh_of(made).vertices
    with torch.no_grad():
        made.offsets.fill_(100)
    moved = np.linalg.norm(mesh_of(made).vertices - before, axis=1)
    cell = 2 / 12
    assert moved.max() == pytest.approx(0.25 * math.sqrt(3) * cell, rel=1e-3)


def test_gradients_against_differences() -> None:
    """Of a random sum over the corners with respect to every parameter of the shape, in float64."""
    made = shaken(tets(resolution=4)).double().eval()  # in training it would keep the surface: gradcheck moves parameters unseen
    weight = torch.randn(len(made.surface().vertices), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(*parameters: Tensor) -> Tensor:  # gradcheck moves them in place
        assert parameters[0].data_ptr() == made.sdf.data_ptr()
        return (made.surface().vertices * weight).sum()

    assert torch.autograd.gradcheck(value, (made.sdf, made.offsets), eps=1e-7, atol=1e-6)


def test_subdivision_keeps_the_surface() -> None:
    """Every corner of the old surface is one of the new, volume and Euler characteristic are the same."""
    made = shaken(tets(resolution=6))
    before = mesh_of(made)
    refined(made)
    after = mesh_of(made)
    assert made.cells == 12
    assert after.watertight
    assert after.volume == pytest.approx(before.volume, rel=1e-6)
    assert len(after.faces) > 2 * len(before.faces)
    distance, _ = _nearest(after.vertices, before.vertices)
    assert distance.max() < 1e-6
    inverse = trimesh.proximity.closest_point_naive(trimesh.Trimesh(before.vertices, before.faces, process=False), after.vertices)
    assert inverse[1].max() < 1e-5


def _nearest(cloud: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import KDTree

    return KDTree(cloud).query(asked)


def test_subdivision_carries_over_what_stays_in_its_place() -> None:
    """Each row that continues another one is the same node with the same distance; all old nodes go on."""
    made = shaken(tets(resolution=6))
    cell = 2 / 6
    places, distances = made.rest + 0.25 * cell * torch.tanh(made.offsets.detach()), made.sdf.detach().clone()
    sdf, offsets = made._halve()
    kept = sdf.index >= 0
    assert sorted(sdf.index[kept].tolist()) == list(range(len(distances)))
    assert torch.equal(sdf.values[kept], distances[sdf.index[kept]])
    assert torch.allclose(made.rest[kept], places[sdf.index[kept]], atol=1e-6)
    assert not offsets.values.any()
    assert bool((offsets.index == -1).all())


def test_subdivision_comes_when_it_is_due() -> None:
    made = tets(resolution=4, start_axes=(0.4, 0.4, 0.4), subdivide=(0.3, 0.6))
    cells = []
    for step in range(10):
        for one in made.end_step(Progress(step, 10), torch.Generator()):
            one.parameter.data = one.values
        cells.append(made.cells)
    assert cells == [4, 4, 8, 8, 8, 16, 16, 16, 16, 16]
    assert not made.end_step(Progress(2, 10), torch.Generator())  # a run made longer does not do it again


class Corners(Renderer):
    """One picture of 16 x 16 pixels, each coloured like a corner of the surface, and darker where that is far out."""

    class Config(ComponentConfig):
        """Nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: ComponentConfig) -> frozenset[str]:
        return frozenset({"surface"})

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        return frozenset({"colour"})

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        assert isinstance(geometry, Surface)
        corners = geometry.surface().vertices[:256]
        colour = geometry.material(SurfacePoints(corners)).albedo * torch.exp(-corners.square().sum(-1, keepdim=True))
        full = torch.ones(len(cameras), 16, 16)
        return RenderOutput(colour.view(1, 16, 16, 3).expand(len(cameras), -1, -1, -1), full, full)


@pytest.fixture
def corners():
    dfw.register("renderer", "corners", Corners)
    yield
    registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


@pytest.mark.usefixtures("corners")
def test_a_run_that_subdivides_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Interrupted before the subdivision, and after it; with its optimiser's state and its averages."""
    geometry = {"type": "tets", "resolution": 8, "subdivide": [0.5], "material": SMALL.model_dump()}
    changes: dict[str, Any] = {"geometry": geometry, "renderer": {"type": "corners"}, "optimizer": {"lr": 0.003}}
    made = config(PIXELS, tmp_path, **changes, trainer={"steps": 8, "ema": 0.9})
    records: list[StepRecord] = []
    whole = make_trainer(made, compose(made).build())
    whole.train(lambda: False, records.append)
    assert isinstance(whole.geometry, Tets)
    assert whole.geometry.cells == 16
    assert records[4].numbers["geometry.triangles"] > 3 * records[3].numbers["geometry.triangles"]
    for stop in (3, 6):
        first = make_trainer(made, compose(made).build())
        first.train(lambda first=first, stop=stop: first.step == stop, records.append)
        second = make_trainer(made, compose(made).build())
        second.restore(first.save(tmp_path / str(stop)))
        second.train(lambda: False, records.append)
        for name, module in whole.modules.items():
            found = second.modules[name].state_dict()
            assert all(torch.equal(found[key], value) for key, value in module.state_dict().items()), (name, stop)
        states, others = (trainer.optimizer.state_dict()["state"] for trainer in (whole, second))
        for key, state in states.items():
            assert all(torch.equal(value, others[key][name]) for name, value in state.items()), (key, stop)


@pytest.mark.parametrize("shape", ["a red ball", "a red mushroom"])
def test_it_starts_from_a_density_field(shape: str) -> None:
    """The shape of a hard field, within a fraction of a cell except at creases, and its colours."""
    made = tets(resolution=32)
    source = SdfScene(SdfScene.Config(shape=shape, density_scale=1000, sharpness=1000))
    with torch.no_grad():
        made.start_from(source)
    mesh = mesh_of(made)
    assert mesh.watertight
    places = torch.from_numpy(mesh.vertices).float()
    distance = source.distance(places)
    assert float(distance.abs().mean()) < 0.006
    assert float(distance.abs().max()) < 0.06
    wanted = source.sample(places).albedo
    with torch.no_grad():
        found = made.material(SurfacePoints(places)).albedo
    assert float((found - wanted).abs().mean()) < 0.02


def test_it_starts_from_a_surface() -> None:
    """A box of 1 x 0.8 x 1.2; its edges are cut by at most a cell."""
    made = tets(resolution=40)
    with torch.no_grad():
        made.start_from(BoxSurface((1, 0.8, 1.2)))
    mesh = mesh_of(made)
    assert mesh.watertight
    assert mesh.volume == pytest.approx(0.96, rel=0.02)
    tops = torch.tensor([[0.1, 0.1, 0.6], [0.1, 0.1, -0.6]])
    with torch.no_grad():
        found = made.material(SurfacePoints(tops)).albedo
    assert torch.allclose(found, torch.tensor([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1]]), atol=0.05)


def test_what_does_not_fit_the_grid_is_cut_off_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    made = tets(resolution=20)
    with caplog.at_level(logging.WARNING, "dfw.geometry"), torch.no_grad():
        made.start_from(BoxSurface((1, 1, 4)))
    assert re.search(r"the box reaches 2 from the centre along an axis, and the grid of .* holds 0\.9", caplog.text)
    mesh = mesh_of(made)
    assert mesh.watertight
    assert 1.6 < mesh.volume < 2


def test_a_source_outside_of_the_grid_is_refused() -> None:
    source = BoxSurface((1, 1, 1))
    source.found = Triangles(source.found.vertices + 5, source.found.faces)
    with pytest.raises(ConfigError, match=r"from \(4\.5, 4\.5, 4\.5\) .* none of \d+ points"), torch.no_grad():
        tets().start_from(source)


def test_a_finer_grid_takes_over_a_coarser_one_exactly() -> None:
    source = shaken(tets(resolution=8))
    made = tets(seed=1, resolution=16)
    with torch.no_grad():
        made.start_from(source)
    assert made.cells == 16
    assert mesh_of(made).volume == pytest.approx(mesh_of(source).volume, rel=1e-6)
    assert torch.equal(made.field.network.last.bias, source.field.network.last.bias)


def test_other_grids_and_materials_are_taken_over_by_their_shape() -> None:
    source = tets(resolution=24)
    made = tets(seed=1, resolution=32, material=MaterialField.Config(encoding=SMALL.encoding, network=NetworkConfig(width=16)))
    with torch.no_grad():
        made.start_from(source)
    assert made.cells == 32
    assert mesh_of(made).volume == pytest.approx(mesh_of(source).volume, rel=0.02)


def test_a_surface_that_vanishes_ends_the_run_with_a_reason() -> None:
    made = tets()
    made.dfw_name = "geometry (dreamfw/tets)"
    made.begin_step(Progress(7, 10), torch.Generator())
    with torch.no_grad():
        made.sdf.fill_(0.1)
    expected = (
        r"geometry \(dreamfw/tets\): the surface has vanished by step 7, .* try a lower optimizer\.groups\.geometry\.sdf\.lr"
    )
    with pytest.raises(DivergedError, match=expected):
        made.surface()
    assert len(made.eval().surface().faces) == 0  # export then says that there is no triangle


def test_losses_and_renderer_of_a_step_share_one_surface() -> None:
    made = tets()
    made.begin_step(Progress(0, 10), torch.Generator())
    found = made.surface()
    assert made.surface() is found
    assert made.crossings().shape == (len(found.vertices), 2)
    copy.deepcopy(made).surface()
    with torch.no_grad():
        assert not made.surface().vertices.requires_grad
    assert made.surface() is found
    found.vertices.square().sum().backward()
    made.surface().vertices.square().sum().backward()  # another batch of views: a graph of its own
    again = made.surface()
    with torch.no_grad():
        made.sdf.add_(0.01)
    assert made.surface() is not again
    made.end_step(Progress(0, 10), torch.Generator())
    assert made._kept._value is None
    evaluated = made.eval().surface()
    assert made.surface() is not evaluated
    assert made._kept._value is None


def test_crossings_are_the_distances_on_both_sides() -> None:
    """In a sphere's grid they are those of the ends' places, one inside and one outside."""
    made = tets(resolution=16)
    ends = made.crossings()
    assert bool((ends[:, 0] < 0).all())
    assert bool((ends[:, 1] >= 0).all())
    apart = ends[:, 1] - ends[:, 0]
    assert float(apart.detach().max()) <= 1.01 * 2 / 16 + 1e-6  # an edge is at most a cell long, a distance at least 0.01
    ends.sum().backward()
    assert made.sdf.grad is not None
    assert int(made.sdf.grad.count_nonzero()) > 100


def test_with_pbr_there_is_more_to_look_at() -> None:
    plain, shiny = Tets.Config(), Tets.Config(material=MaterialField.Config(pbr=True))
    assert Tets.provides(shiny) - Tets.provides(plain) == {"roughness", "metallic"}
    assert {"surface", "signed-grid"} <= Tets.provides(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subdivide": [0.5, 0.4]}, "fractions must increase"),
        ({"resolution": 128, "subdivide": [0.2, 0.4]}, "makes 512 cells of 128, the most are 256"),
        ({"start_axes": [1, 0.5, 0.5]}, "1 does not fit the grid; write at most 0.969"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        Tets.Config(**options)


class Shrink(Loss):
    """All distances rise."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        assert isinstance(inputs.geometry, Tets)
        return -inputs.geometry.sdf.sum()


@pytest.mark.usefixtures("corners")
def test_a_run_whose_surface_vanishes_says_why(tmp_path: Path) -> None:
    """Distances rise by 0.15 in each step, from -0.5: after the fourth none is below 0. The run has diverged, with a remedy."""
    dfw.register("loss", "shrink", Shrink)
    parts: dict[str, Any] = {
        "geometry": {"type": "tets", "resolution": 16, "material": SMALL.model_dump()},
        "renderer": {"type": "mesh", "background": {"type": "solid"}},
        "losses": {"shrink": {"type": "shrink"}},
        "optimizer": {"type": "sgd", "betas": [0, 0], "lr": 0, "groups": {"geometry.sdf": {"lr": 0.15}}},
    }
    made = config(PIXELS, tmp_path, **parts)
    with pytest.raises(DivergedError, match=r"geometry \(dreamfw/tets.*the surface has vanished by step 4"):
        run(made, listeners=[])
    (directory,) = (tmp_path / "runs" / "run").iterdir()
    assert RunDirectory.open(directory).read_json("status.json")["status"] == "diverged"
