"""The cubes' weights as a scene: what they move, that nothing tears, and how well a crease is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from dfw import DivergedError, Material, Mesh, Progress, Surface, SurfacePoints, Triangles
from dfw_geometry.flexicubes import FlexiCubes
from dfw_geometry.grid_surface import GridConfig, GridSurface
from dfw_geometry.material_field import MaterialField
from dfw_geometry.networks import NetworkConfig
from dfw_geometry.tets import Tets

SMALL = MaterialField.Config(network=NetworkConfig(width=4))


def cubes(resolution: int = 12, **options: object) -> FlexiCubes:
    made = FlexiCubes(GridConfig.model_validate({"resolution": resolution, "material": SMALL, **options}))
    made.initialise(torch.Generator().manual_seed(0))
    return made


def mesh_of(made: Surface) -> Mesh:
    with torch.no_grad():
        found = made.surface()
    return Mesh(found.vertices.double().numpy(), found.faces.numpy())


def shape_of(made: GridSurface) -> list[torch.nn.Parameter]:
    """All parameters of the shape."""
    return [one for group in made.shape_parameters().values() for one in group]


def test_it_starts_as_an_ellipsoid() -> None:
    mesh = mesh_of(cubes(32, start_axes=(0.7, 0.4, 0.5)))
    assert mesh.watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.14, rel=0.03)


def test_any_parameters_give_a_closed_surface() -> None:
    """Signs by chance, and offsets and weights at their ends."""
    made = cubes()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.sdf.copy_(torch.randn(made.sdf.shape, generator=generator))
        for parameter in (made.offsets, made.weights):
            parameter.copy_(100 * torch.randn(parameter.shape, generator=generator))
    mesh = mesh_of(made)
    assert mesh.watertight
    assert np.isfinite(mesh.vertices).all()


def test_a_full_grid_is_closed_inside_the_cube() -> None:
    made = cubes(radius=1.5)
    with torch.no_grad():
        made.sdf.fill_(-1)
    mesh = mesh_of(made)
    assert mesh.watertight
    assert np.abs(mesh.vertices).max() < 1.5


def test_gradients_against_differences() -> None:
    """Of a random sum over the corners with respect to distances, offsets and weights, in float64."""
    made = cubes(4, start_axes=(0.4, 0.4, 0.4)).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in shape_of(made):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    weight = torch.randn(made.surface().vertices.shape, generator=generator, dtype=torch.float64)

    def value(*parameters: torch.Tensor) -> torch.Tensor:  # gradcheck moves them in place
        return (made.surface().vertices * weight).sum()

    assert torch.autograd.gradcheck(value, tuple(shape_of(made)), eps=1e-7, atol=1e-6)


def test_alpha_moves_a_crossing_along_its_edge() -> None:
    """With s = -1 and 1, and alpha 1.99 and 0.01 in every cube, crossings lie at 1.99 / 2 of the way to the outside corner."""
    made = cubes(4, radius=2.0, start_axes=(0.9, 0.9, 0.9))  # cells of side 1
    with torch.no_grad():
        made.sdf.fill_(1)
        made.sdf[13] = -1  # the centre
        for place in range(8):
            made.weights[:, place] = 0
    found = made.surface().vertices.detach()
    assert torch.allclose(found[:8].abs(), torch.full((8, 3), 1 / 6))  # the mean of three crossings at 1/2
    with torch.no_grad():
        made.weights[:, :8] = -100
        n = 4
        for x in (1, 2):
            for y in (1, 2):
                for z in (1, 2):
                    corner = (2 - x) + 2 * (2 - y) + 4 * (2 - z)  # the grid's centre, as a corner of this cube
                    made.weights[(x * n + y) * n + z, corner] = 100
    found = made.surface().vertices.detach()
    assert torch.allclose(found[:8].abs(), torch.full((8, 3), 1.99 / 2 / 3), atol=1e-5)


def test_beta_weighs_a_cubes_crossings() -> None:
    """Edges along x count 1.99, all others 0.01: the crossing at 1/2 along x has 1.99 / 2.01 of each vertex."""
    made = cubes(4, radius=2.0, start_axes=(0.9, 0.9, 0.9))
    with torch.no_grad():
        made.sdf.fill_(1)
        made.sdf[13] = -1
        made.weights[:, 8:12] = 100
        made.weights[:, 12:20] = -100
    found = made.surface().vertices.detach()[:8].abs()
    assert torch.allclose(found, torch.tensor([1.99, 0.01, 0.01]).expand(8, 3) / 2 / 2.01, atol=1e-5)


def test_creases_are_fitted_better_than_by_tetrahedra() -> None:
    """Both are fitted to a cube that is turned in the grid, by the distances of their vertices; FlexiCubes is for this."""
    turn = torch.tensor(trimesh.transformations.euler_matrix(0.4, 0.3, 0.2)[:3, :3], dtype=torch.float32)

    def distance(points: torch.Tensor) -> torch.Tensor:
        beyond = (points @ turn).abs() - 0.5
        return beyond.clamp(min=0).norm(dim=-1) + beyond.amax(-1).clamp(max=0)

    volumes = []
    for made in (cubes(16), Tets(Tets.Config(resolution=16, material=SMALL))):
        made.initialise(torch.Generator().manual_seed(0))
        made.set_distances(distance(made.lattice()))
        shape = shape_of(made)
        optimizer = torch.optim.Adam([{"params": [p], "lr": rate} for p, rate in zip(shape, (2e-3, 2e-2, 2e-2), strict=False)])
        for step in range(60):
            made.begin_step(Progress(step, 60), torch.Generator())
            found = made.surface()
            optimizer.zero_grad()
            middles = found.vertices[found.faces].mean(1)
            (distance(found.vertices).square().mean() + distance(middles).square().mean()).backward()
            optimizer.step()
            made.end_step(Progress(step, 60), torch.Generator())
        volumes.append(abs(mesh_of(made.eval()).volume - 1))
    assert volumes[0] < 0.02
    assert volumes[0] < volumes[1]


class Box(Surface):
    """A red box."""

    def surface(self) -> Triangles:
        made = trimesh.creation.box((1, 0.8, 1.2))
        return Triangles(torch.tensor(made.vertices, dtype=torch.float32), torch.tensor(np.array(made.faces)))

    def material(self, at: SurfacePoints) -> Material:
        return Material(torch.tensor([0.9, 0.1, 0.1]).expand_as(at.position))


def test_it_starts_from_a_surface() -> None:
    made = cubes(32)
    with torch.no_grad():
        made.start_from(Box())
        found = made.material(SurfacePoints(torch.tensor([[0.5, 0.0, 0.0]]))).albedo
    mesh = mesh_of(made)
    assert mesh.watertight
    assert mesh.volume == pytest.approx(0.96, rel=0.04)
    assert torch.allclose(found, torch.tensor([[0.9, 0.1, 0.1]]), atol=0.05)


def test_crossings_are_the_distances_on_both_sides() -> None:
    """One for each crossed edge, whatever the weights are."""
    made = cubes(8)
    ends = made.crossings()
    assert 4 * len(ends) == len(made.surface().faces)
    assert bool((ends[:, 0] < 0).all())
    assert bool((ends[:, 1] >= 0).all())
    with torch.no_grad():
        made.weights.add_(1)
    assert torch.equal(made.crossings(), ends)


def test_a_surface_that_vanishes_ends_the_run_with_a_reason() -> None:
    made = cubes()
    made.begin_step(Progress(3, 10), torch.Generator())
    with torch.no_grad():
        made.sdf.fill_(0.1)
    with pytest.raises(DivergedError, match=r"the surface has vanished by step 3"):
        made.surface()
    assert len(made.eval().surface().faces) == 0
