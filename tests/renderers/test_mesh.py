"""The renderer of surfaces: pictures against rays that are solved one by one, and what a run needs of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from surfaces import Painted, alike, inside, soup, sphere, traced
from torch import Tensor, nn

from dfw import ComponentConfig, ConfigError, Material, Progress, RenderOutput, SurfacePoints
from dfw.testing.fields import Octahedron, two_blobs, views
from dfw_renderers.mesh import Mesh

ANGLES = ((0.0, 0.0), (90.0, 30.0), (-135.0, -20.0))


def renderer(**shading: Any) -> Mesh:
    return Mesh(Mesh.Config.model_validate({"shading": shading})).eval()


def painted(subdivisions: int = 2, dtype: torch.dtype = torch.float32) -> Painted:
    """A sphere whose colours are its places."""
    vertices, faces = sphere(0.7, subdivisions, dtype)
    return Painted(vertices, faces, 0.5 + 0.6 * vertices)


@pytest.fixture(params=["sphere", "soup"])
def surface(request: pytest.FixtureRequest) -> Painted:
    if request.param == "sphere":
        return painted()
    vertices, faces = soup(12, 0.9, 1)
    return Painted(vertices, faces, 0.5 + 0.5 * vertices)


@pytest.mark.parametrize("lit", [False, True])
@pytest.mark.parametrize("size", [(40, 40), (31, 56)])
def test_pictures_are_those_of_rays(surface: Painted, size: tuple[int, int], lit: bool) -> None:
    """Colour, normal, depth and opacity, except at edges: a pixel whose neighbours all show the ball, or one triangle."""
    cameras = views(ANGLES, *size)
    found = renderer(eval_shading="lambertian" if lit else "albedo")(surface, cameras)
    expected = traced(surface, cameras, lit)
    same, thing = alike(expected["face"]), expected["face"] >= 0
    solid = inside(expected["face"]) if len(surface.faces) > 100 else same & thing
    assert int(solid.sum()) > 200
    assert (found.colour - expected["colour"])[solid].abs().max() < 1 / 255
    assert (found.depth - expected["depth"])[solid].abs().max() < 1e-4
    assert (found.normal - expected["normal"])[solid].abs().max() < 1e-2
    assert (found.opacity - expected["opacity"])[solid].abs().max() < 1e-6
    outside = same & ~thing
    assert torch.equal(found.colour[outside], torch.ones_like(found.colour[outside]))
    assert not found.opacity[outside].any()
    assert not found.depth[outside].any()


def test_colour_is_perspective_correct() -> None:
    """A floor from 1 to 20 units away, with a colour that grows with distance: at each pixel that of the point it shows."""
    corners = torch.tensor([[2.0, -9.0, -0.5], [2.0, 9.0, -0.5], [-17.0, 9.0, -0.5], [-17.0, -9.0, -0.5]])
    shade = (corners[:, :1] + 17) / 19
    floor = Painted(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), shade.expand(-1, 3))
    cameras = views([(0.0, 0.0)], 32, 32)
    found = renderer()(floor, cameras)
    shown = found.opacity > 0.999
    point = cameras.position[:, None, None] + found.depth[..., None] * cameras.rays().direction
    assert torch.allclose(point[shown][:, 2], torch.full_like(point[shown][:, 2], -0.5), atol=1e-4)
    assert torch.allclose(found.colour[shown][:, 0], (point[shown][:, 0] + 17) / 19, atol=1e-4)


def test_the_material_is_asked_once_for_the_points_of_all_views() -> None:
    surface, cameras = painted(), views(ANGLES, 20, 24)
    found = renderer()(surface, cameras)
    (asked,) = surface.asked
    assert asked.face is not None
    assert asked.barycentric is not None
    at_corners = surface.vertices[surface.faces[asked.face]]
    assert torch.allclose((asked.barycentric[..., None] * at_corners).sum(1), asked.position, atol=1e-5)
    assert len(asked.position) == int((traced(surface, cameras)["face"] >= 0).sum())
    assert asked.position.requires_grad
    assert set(found.extras) == {"albedo"}


def test_the_background_shows_through_by_what_opacity_leaves() -> None:
    """At every pixel, edges too: colour = opacity * own + (1 - opacity) * background."""
    vertices, faces = sphere(0.7, 2)
    own, behind = torch.tensor([0.2, 0.4, 0.9]), torch.tensor([1.0, 0.3, 0.1])
    background = {"type": "solid", "colour": behind.tolist()}
    found = Mesh(Mesh.Config.model_validate({"background": background})).eval()(
        Painted(vertices, faces, own), views(ANGLES, 24, 24)
    )
    opacity = found.opacity[..., None]
    assert int(((opacity > 0.1) & (opacity < 0.9)).sum()) > 50
    assert torch.allclose(found.colour, opacity * own + (1 - opacity) * behind, atol=1e-6)


def test_extras_are_composited_over_nothing() -> None:
    vertices, faces = sphere(0.7, 1)
    surface = Painted(vertices, faces, (0.2, 0.4, 0.6), roughness=0.3, metallic=0.8)
    for shading in ("albedo", "pbr"):
        found = renderer(eval_shading=shading)(surface, views(ANGLES, 16, 16))
        assert set(found.extras) == {"albedo", "roughness", "metallic"}
        assert torch.allclose(found.extras["roughness"][..., 0], 0.3 * found.opacity, atol=1e-6)
        assert torch.allclose(found.extras["metallic"][..., 0], 0.8 * found.opacity, atol=1e-6)
        assert torch.allclose(found.extras["albedo"], found.opacity[..., None] * torch.tensor([0.2, 0.4, 0.6]), atol=1e-6)


class Bumpy(Painted):
    """With a push on each normal."""

    push: Tensor = torch.tensor([0.3, -0.2, 0.5])

    def material(self, at: SurfacePoints) -> Material:
        found = super().material(at)
        return Material(found.albedo, bump=self.push.expand_as(at.position))


def test_bumps_bend_normals() -> None:
    vertices, faces = sphere(0.7, 3)
    cameras = views(ANGLES, 24, 24)
    plain, bumpy = (renderer()(made(vertices, faces), cameras) for made in (Painted, Bumpy))
    solid = plain.opacity > 0.999
    assert plain.normal is not None
    assert bumpy.normal is not None
    expected = torch.nn.functional.normalize(plain.normal[solid] + Bumpy.push, dim=-1)
    assert torch.allclose(bumpy.normal[solid], expected, atol=1e-5)
    assert torch.equal(plain.colour, bumpy.colour)


def test_a_surface_seen_from_behind_has_its_normals_towards_the_viewer() -> None:
    vertices, faces = sphere(0.7, 2)
    cameras = views(ANGLES, 24, 24)
    front, back = (renderer(eval_shading="lambertian")(Painted(vertices, turned), cameras) for turned in (faces, faces.flip(1)))
    assert front.normal is not None
    assert back.normal is not None
    assert torch.allclose(front.normal, back.normal, atol=1e-6)
    assert torch.allclose(front.colour, back.colour, atol=1e-6)


def empty_scenes() -> Iterator[tuple[str, Painted]]:
    vertices, faces = sphere(0.7, 1)
    yield "no triangles", Painted(vertices, faces[:0])
    yield "no vertices", Painted(vertices[:0], faces[:0])
    yield "outside all views", Painted(vertices + torch.tensor([0.0, 0.0, 90.0]), faces)
    yield "around the cameras, too near", Painted(0.001 * vertices + torch.tensor([3.0, 0.0, 0.0]), faces)
    yield "triangles without area", Painted(torch.zeros_like(vertices), faces)


@pytest.mark.parametrize("name", [name for name, _ in empty_scenes()])
@pytest.mark.parametrize("mode", ["albedo", "lambertian", "pbr", "normal"])
def test_a_scene_with_nothing_to_see_is_its_background(name: str, mode: str) -> None:
    """And its gradients are 0, so that a run goes on."""
    scene = dict(empty_scenes())[name]
    made = Mesh(Mesh.Config.model_validate({"shading": {"mode": mode, "start": 0}, "background": {"type": "checker"}})).train()
    cameras = views(ANGLES[:1], 12, 15)
    found: RenderOutput = made(scene, cameras, torch.Generator().manual_seed(0))
    assert torch.equal(found.colour, made.background(cameras.rays().direction))
    for value in (found.opacity, found.depth, found.normal):
        assert value is not None
        assert not value.any()
    (found.colour.sum() + found.depth.sum() + found.opacity.sum()).backward()
    assert scene.vertices.grad is not None
    assert not scene.vertices.grad.any()


@pytest.mark.parametrize("shading", ["albedo", "lambertian", "pbr", "normal"])
def test_gradients_equal_finite_differences(shading: str) -> None:
    """Of corners and colours, through all pictures, silhouettes among them."""
    vertices, faces = sphere(0.6, 0, torch.float64)
    surface = Painted(vertices, faces, 0.5 + 0.5 * vertices, roughness=0.4, metallic=0.2)
    cameras = views([(10.0, 20.0)], 7, 9, dtype=torch.float64)
    made = renderer(eval_shading=shading).double()

    def shown(moved: Tensor, colours: Tensor) -> tuple[Tensor, ...]:
        scene = _Bridge(made, surface)
        parameters = {"surface.vertices": moved, "surface.colours": colours}
        found = torch.func.functional_call(scene, parameters, (cameras,))
        return found.colour, found.opacity, found.depth, found.normal, found.extras["albedo"]

    given = [value.detach().clone().requires_grad_() for value in (surface.vertices, surface.colours)]
    assert torch.autograd.gradcheck(shown, given, atol=1e-6, rtol=1e-4, fast_mode=True)


class _Bridge(nn.Module):
    def __init__(self, made: Mesh, surface: Painted) -> None:
        super().__init__()
        self.made, self.surface = made, surface

    def forward(self, cameras: Any) -> RenderOutput:
        found: RenderOutput = self.made(self.surface, cameras)
        return found


@pytest.mark.parametrize("threads", [2, 3])
def test_pictures_and_gradients_have_the_same_bits_whatever_the_threads(threads: int) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            surface = painted(4)
            output = renderer(eval_shading="pbr")(surface, views(ANGLES, 80, 70))
            (output.colour.square().mean() + output.depth.mean()).backward()
            found.append([output.colour, output.depth, output.normal, surface.vertices.grad, surface.colours.grad])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_lights_are_drawn_for_each_view_after_the_start() -> None:
    """Before it all views show albedo. With a probability of 1 and textureless 1 each shows a matt white sphere, lit."""
    shading = {"mode": "pbr", "start": 0.5, "probability": 1.0, "textureless": 1.0, "ambient": [0, 0], "diffuse": [1, 1]}
    made = Mesh(Mesh.Config.model_validate({"shading": shading, "background": {"type": "solid"}})).train()
    surface, cameras = painted(), views(ANGLES, 20, 20)
    generator = torch.Generator()
    shown = []
    for step in (0, 60):
        made.begin_step(surface, Progress(step, 100), generator.manual_seed(1))
        shown.append(made(surface, cameras, generator.manual_seed(1)))
    assert torch.equal(shown[0].colour, renderer()(surface, cameras).colour)
    solid = shown[1].opacity > 0.999
    grey = shown[1].colour[solid]
    assert torch.allclose(grey.amax(-1), grey.amin(-1), atol=1e-6)
    assert grey.std() > 0.1


def test_shares_of_lit_views_keep_the_others_albedo() -> None:
    shading = {"mode": "pbr", "start": 0, "probability": 0.5, "environment": [[1, 2, 3]], "textureless": 0}
    made = Mesh(Mesh.Config.model_validate({"shading": shading, "background": {"type": "solid"}})).train()
    surface, cameras = painted(1), views([(10.0 * k, 0.0) for k in range(24)], 6, 6)
    plain = renderer()(surface, cameras).colour
    found = made(surface, cameras, torch.Generator().manual_seed(2)).colour
    same = [torch.equal(a, b) for a, b in zip(found, plain, strict=True)]
    assert 4 < sum(same) < 20


def test_silhouettes_teach_a_sphere_the_outline_of_another_shape() -> None:
    """Gradient descent on corners by masks alone: from a ball to a flat, shifted one. Nothing but edges gives gradients."""
    vertices, faces = sphere(0.5, 2)
    target = Painted(vertices * torch.tensor([1.2, 0.7, 0.9]) + torch.tensor([0.0, 0.1, -0.1]), faces)
    surface, cameras = Painted(vertices, faces), views([(60.0 * k, 20.0 * (-1) ** k) for k in range(6)], 32, 32)
    made = renderer()
    with torch.no_grad():
        wanted = made(target, cameras).opacity
    shift, scale = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimiser = torch.optim.Adam([shift, scale], lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        moved = _Bridge(made, surface)
        found = torch.func.functional_call(moved, {"surface.vertices": vertices * scale + shift}, (cameras,))
        (found.opacity - wanted).square().mean().backward()
        optimiser.step()
    assert scale.tolist() == pytest.approx([1.2, 0.7, 0.9], abs=0.02)
    assert shift.tolist() == pytest.approx([0.0, 0.1, -0.1], abs=0.01)


def test_a_geometry_without_a_surface_is_refused() -> None:
    with pytest.raises(ConfigError, match="mesh renders surfaces"):
        renderer()(two_blobs(), views(ANGLES, 4, 4))


def test_training_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="pass a generator"):
        renderer().train()(Octahedron(), views(ANGLES, 4, 4))


def test_config_is_the_renderers_own() -> None:
    assert isinstance(Mesh.Config(), ComponentConfig)
    with pytest.raises(ValueError, match="normals"):
        Mesh.Config.model_validate({"shading": {"normals": "always"}})
