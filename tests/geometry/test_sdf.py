"""Signed distances as densities: the papers' formulas, a sphere's pictures, gradients, and the exported surface."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from nerfs import ENCODINGS, by_encoding, cube, seeded
from pydantic import ValidationError
from render_fields import along, looking, turn
from torch import Tensor
from volumes import volume

from dfw import CameraBatch, Progress
from dfw.export.grid import sample_density
from dfw.export.level import choose_level
from dfw.export.mesh import surface_of
from dfw_geometry.sdf import SDF
from dfw_geometry.sdf_scene import SdfScene
from dfw_geometry.tets import Tets

SPHERE = 0.5
KINDS = ["volsdf", "neus"]
by_kind = pytest.mark.parametrize("kind", KINDS)


def make(loud: bool = False, **options: object) -> SDF:
    """A scene with initial parameters; `loud`: features as large as after some training."""
    field = SDF(SDF.Config.model_validate({"encoding": ENCODINGS[0], **options}))
    field.initialise(seeded())
    if loud:
        with torch.no_grad():
            for parameter in field.encoding.grid_parameters():
                parameter.mul_(1e4)
    return field


def sphere(kind: str, sharpness: float) -> SDF:
    """Networks of zeros: f = |x| - 1/2 exactly."""
    return SDF(SDF.Config.model_validate({"encoding": ENCODINGS[1], "density": kind, "sharpness": sharpness})).eval()


def rays(points: Tensor, seed: int = 5) -> tuple[Tensor, Tensor]:
    """A direction for each point, and segments of length 0.03."""
    direction = torch.randn(points.shape, generator=seeded(seed), dtype=points.dtype)
    return F.normalize(direction, dim=-1), torch.full_like(points[..., 0], 0.03)


def test_volsdf_is_the_laplace_distribution() -> None:
    points, s = cube(200), 30.0
    distance = points.norm(dim=-1) - SPHERE
    expected = s * torch.distributions.Laplace(0.0, 1 / s).cdf(-distance)
    found = sphere("volsdf", s).density(points)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(sphere("volsdf", s).segment(points, *rays(points)).density, found)


def test_neus_is_the_papers_formula_on_consecutive_samples() -> None:
    """On the axis f = |x| - 1/2 is linear on either side: alpha_i = max((Phi_i - Phi_{i+1}) / Phi_i, 0) to rounding, eq. 13."""
    s, edges = 25.0, torch.linspace(0.9, 0.1, 41, dtype=torch.float64)
    phi = torch.sigmoid(s * (edges - SPHERE))
    expected = ((phi[:-1] - phi[1:]) / phi[:-1]).clamp(min=0)
    middle, length = (edges[:-1] + edges[1:]) / 2, edges[0] - edges[1]
    points = torch.stack([middle, 0 * middle, 0 * middle], dim=-1)
    field = sphere("neus", s).double()
    for sign, wanted in ((-1.0, expected), (1.0, torch.zeros_like(expected))):  # into the sphere, and out of it
        directions = torch.tensor([sign, 0, 0], dtype=torch.float64).expand_as(points)
        density = field.segment(points, directions, length.expand_as(middle)).density
        assert torch.allclose(1 - torch.exp(-density * length), wanted, atol=1e-6)


def test_neus_takes_the_ends_of_a_segment_from_its_middle() -> None:
    """As the authors' code does; f and its slope by finite differences of `distance`."""
    field, points = make(True, density="neus", sharpness=40).double(), cube(300, 0.8, torch.float64)
    directions, length = rays(points)
    step = 1e-6
    slope = (field.distance(points + step * directions) - field.distance(points - step * directions)) / (2 * step)
    phi = [torch.sigmoid(40 * (field.distance(points) + sign * slope * length / 2)) for sign in (-1, 1)]
    expected = ((phi[0] - phi[1]) / phi[0]).clamp(min=0)
    found = 1 - torch.exp(-field.segment(points, directions, length).density * length)
    assert (expected > 0).float().mean() > 0.2
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_short_segment_straight_in_is_as_dense_as_the_point() -> None:
    """NeuS, eq. 10: -(dPhi/dt) / Phi = s Phi(-s f) |cos|, and `density` is that of a ray straight in."""
    field, points = sphere("neus", 20.0).double(), cube(200, 0.9, torch.float64)
    inwards = -F.normalize(points, dim=-1)
    short = torch.full_like(points[:, 0], 1e-5)
    assert torch.allclose(field.segment(points, inwards, short).density, field.density(points), rtol=1e-3)
    aslant = F.normalize(inwards + torch.linalg.cross(inwards, points.roll(1, 0)), dim=-1)
    cosine = -(aslant * F.normalize(points, dim=-1)).sum(-1)
    assert torch.allclose(field.segment(points, aslant, short).density, cosine * field.density(points), rtol=1e-3)


def seen(kind: str, s: float, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
    """Opacity and depth (B, H, W) of the sphere, by 40,000 steps along each ray in float64, from the definitions alone."""
    line = cameras.rays()
    origin, direction = line.origin.double(), line.direction.double()
    edges = torch.linspace(1.5, 4.5, 40_001, dtype=torch.float64)
    t = (edges[1:] + edges[:-1]) / 2
    points = origin[..., None, :] + t[:, None] * direction[..., None, :]
    radius = points.norm(dim=-1)
    cosine = (points * direction[..., None, :]).sum(-1) / radius
    f, inside = radius - SPHERE, points.abs().amax(-1) <= 1
    if kind == "volsdf":
        density = s * torch.where(f > 0, torch.exp(-s * f) / 2, 1 - torch.exp(s * f) / 2)
    else:
        density = s * torch.sigmoid(-s * f) * (-cosine).clamp(min=0)
    thickness = density * inside * (edges[1] - edges[0])
    weight = torch.exp(thickness - thickness.cumsum(-1)) * -torch.expm1(-thickness)
    opacity = weight.sum(-1)
    return opacity, (weight * t).sum(-1) / opacity


@by_kind
@pytest.mark.parametrize("s", [15.0, 60.0])
def test_a_rendered_sphere_has_its_opacity_and_depth(kind: str, s: float) -> None:
    cameras = looking((3.0, 0.0, 0.0), (2.0, 2.0, 1.0), size=6, fov=26.0)
    found = volume(samples=1200, early_stop=0, occupancy={"enabled": False})(sphere(kind, s), cameras)
    opacity, depth = seen(kind, s, cameras)
    assert float(opacity.min()) < 0.1
    assert float(opacity.max()) > 0.99
    assert torch.allclose(found.opacity.double(), opacity, atol=0.01)
    hit = opacity > 0.2
    assert torch.allclose(found.depth.double()[hit], depth[hit], atol=0.005)


def test_neus_shows_the_surface_where_it_is() -> None:
    """Closed forms: half the light passes where the ray touches the sphere, and straight in the depth is the surface's."""
    s, renderer = 40.0, volume(samples=1500, early_stop=0)
    for apart in (-0.05, 0.0, 0.05):
        opacity = renderer(sphere("neus", s), along(0, at=(SPHERE + apart, 0.0))).opacity.item()
        assert opacity == pytest.approx(1 / (1 + math.exp(s * apart)), abs=0.005)
    straight = renderer(sphere("neus", s), along(0))
    assert straight.depth.item() == pytest.approx(3 - SPHERE, abs=0.003)
    assert straight.opacity.item() == pytest.approx(1, abs=1e-5)


@by_kind
def test_a_rendered_sphere_has_its_normals(kind: str) -> None:
    """Where a ray ends at the surface, the normal is the place on the sphere that it meets, up to its softness."""
    cameras = turn(2, size=16)
    found = volume(samples=400, shading={"normals": "always"})(sphere(kind, 150.0), cameras)
    line = cameras.rays()
    middle = (line.origin * line.direction).sum(-1)
    nearest = (line.origin - middle[..., None] * line.direction).norm(dim=-1)
    inner = nearest < 0.35
    meets = -middle - (SPHERE**2 - nearest.clamp(max=SPHERE) ** 2).sqrt()
    expected = F.normalize(line.origin + meets[..., None] * line.direction, dim=-1)
    assert found.normal is not None
    assert inner.sum() > 20
    assert ((found.normal * expected).sum(-1)[inner] > 0.99).all()


@by_kind
@by_encoding
def test_gradients_reach_parameters_through_all_outputs(encoding: dict[str, object], kind: str) -> None:
    """The directional derivative along random parameter directions, by central differences in float64; sharpness too."""
    field, points = make(True, encoding=encoding, density=kind).double(), cube(30, 0.6, torch.float64)
    directions, length = rays(points)
    factor = torch.randn(30, 8, dtype=torch.float64, generator=seeded(8))

    def total() -> Tensor:
        found = field.segment(points, directions, length, normals=True)
        assert found.normal is not None
        parts = [found.density[:, None] / 10, found.albedo, found.normal, found.extras["gradient"]]
        return (torch.cat(parts, dim=-1) * factor).sum()

    parameters = list(field.parameters())
    moves = [0.1 * torch.randn(p.shape, dtype=torch.float64, generator=seeded(4)) for p in parameters]
    gradients = torch.autograd.grad(total(), parameters)
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, moves, strict=True))

    def moved(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, moves, strict=True):
                p.add_(d, alpha=step)
        value = float(total().detach())
        with torch.no_grad():
            for p, d in zip(parameters, moves, strict=True):
                p.sub_(d, alpha=step)
        return value

    assert analytic == pytest.approx((moved(1e-6) - moved(-1e-6)) / 2e-6, rel=2e-4)
    assert all(g.abs().sum() > 0 for g in gradients)


def test_float32_kernels_agree_with_float64_torch() -> None:
    single, double = make(True, density="neus"), make(True, density="neus").double()
    points = cube(300, 0.6)
    values = []
    for field, at in ((single, points), (double, points.double())):
        directions, length = rays(points.double())
        found = field.segment(at, directions.to(at), length.to(at), normals=True)
        (found.density.mean() + (found.extras["gradient"] - 1).square().mean()).backward()
        values.append(found.density.double())
    assert torch.allclose(*values, rtol=1e-3, atol=1e-3)
    for (name, p), q in zip(single.named_parameters(), double.parameters(), strict=True):
        if q.grad is not None:
            assert p.grad is not None
            assert (p.grad - q.grad).abs().max() < 2e-3 * q.grad.abs().max(), name


@by_encoding
def test_it_starts_as_a_sphere(encoding: dict[str, object]) -> None:
    """A ball with an inside, a slope near 1, and grey: off by at most 0.05 for sines, and 0.001 for what is stored over space."""
    field, points = make(encoding=encoding), cube(500)
    off = (field.distance(points) - (points.norm(dim=-1) - SPHERE)).abs().max()
    assert off < (0.05 if encoding["type"] == "integrated-positional" else 1e-3)
    assert field.distance(torch.zeros(3)).item() == pytest.approx(-SPHERE, abs=0.1)


def test_the_distance_has_its_gradient_in_extras() -> None:
    """|grad f| by finite differences, only where gradients are computed; normals are grad f / |grad f|."""
    field, points = make(True).double(), cube(50, 0.7, torch.float64)
    offset = 1e-6 * torch.eye(3, dtype=torch.float64)
    rise = (field.distance(points[:, None] + offset) - field.distance(points[:, None] - offset)) / 2e-6
    found = field.sample(points, normals=True)
    assert torch.allclose(found.extras["gradient"], rise.norm(dim=-1, keepdim=True), rtol=1e-4)
    assert found.normal is not None
    assert torch.allclose(found.normal, F.normalize(rise, dim=-1), atol=1e-4)
    assert field.sample(points).extras == {}


def test_groups_cover_everything_once_and_the_sharpness_has_its_own() -> None:
    field = make()
    groups = field.parameter_groups()
    assert set(groups) == {"geometry.encoding", "geometry.network", "geometry.sharpness"}
    assert sorted(id(p) for group in groups.values() for p in group) == sorted(id(p) for p in field.parameters())
    assert groups["geometry.sharpness"][0].exp().item() == pytest.approx(20)


def test_coarse_to_fine() -> None:
    field = make(coarse_to_fine={"start_levels": 2, "end": 0.5})
    for step, expected in ((0, [1, 1, 0, 0]), (125, [1, 1, 0.5, 0]), (500, [1] * 4)):
        field.begin_step(Progress(step, 1000), seeded())
        assert field.level_weights is not None
        assert field.level_weights.tolist() == expected


@pytest.mark.parametrize("s", [20.0, 100.0])
def test_the_mesh_of_a_neus_sphere_has_the_volume_of_the_ball(s: float) -> None:
    """The exporter finds f = 0 by itself, density s/2, since half the light passes there."""
    field, cameras = sphere("neus", s), turn(3, size=48)
    grid = sample_density(field, 48)
    with torch.no_grad():
        level = choose_level(grid, volume(samples=160)(field, cameras).opacity, cameras).level
    assert surface_of(grid, None, level).volume == pytest.approx(4 / 3 * math.pi * SPHERE**3, rel=0.03)


def test_the_mesh_of_a_volsdf_sphere_is_what_its_pictures_show() -> None:
    """Half the light passes at the ball of radius 0.5 + d, where the tangent's thickness is ln 2: larger than f = 0.

    With s x = 1 at the surface, tau(d) = s/2 int exp(-s (sqrt((r + d)^2 + t^2) - r)) dt, by 40,000 steps.
    """
    s, field, cameras = 50.0, sphere("volsdf", 50.0), turn(3, size=48)
    t = torch.linspace(-1, 1, 40_001, dtype=torch.float64)

    def thickness(apart: float) -> float:
        return float((s / 2 * torch.exp(-s * ((t.square() + (SPHERE + apart) ** 2).sqrt() - SPHERE))).sum() * 5e-5)

    low, high = 0.0, 0.2
    for _ in range(40):
        low, high = ((low + high) / 2, high) if thickness((low + high) / 2) > math.log(2) else (low, (low + high) / 2)
    grid = sample_density(field, 48)
    with torch.no_grad():
        level = choose_level(grid, volume(samples=160)(field, cameras).opacity, cameras).level
    assert surface_of(grid, None, level).volume == pytest.approx(4 / 3 * math.pi * (SPHERE + low) ** 3, rel=0.06)
    assert surface_of(grid, None, s / 2).volume == pytest.approx(4 / 3 * math.pi * SPHERE**3, rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sphere": 1.0}, "write less than radius"),
        ({"density": "unisurf"}, "volsdf"),
        ({"sharpness": 0}, "greater than 0"),
        ({"blob": None}, "blob"),
    ],
)
def test_bad_configurations_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SDF.Config.model_validate(options)


FINE = {"levels": 5, "features": 4, "log2_size": 15, "base": 8, "finest": 48}


def test_it_starts_from_the_shape_and_colours_of_a_density_field() -> None:
    """A mushroom: distances off by 0.015 in the mean near it, the right sign, and its colours; the sharpness stays."""
    field, source = make(encoding=FINE), SdfScene(SdfScene.Config(shape="a red mushroom", density_scale=1000, sharpness=1000))
    with torch.no_grad():
        field.start_from(source)
    points = cube(4000)
    true, found = source.distance(points), field.distance(points).detach()
    assert (found - true).abs()[true.abs() < 0.1].mean() < 0.015
    assert ((found < 0) == (true < 0))[true.abs() > 0.03].float().mean() > 0.99
    on = points[true.abs() < 0.02]
    assert (field.sample(on).albedo - source.sample(on).albedo).abs().mean() < 0.04
    assert field.log_sharpness.exp().item() == pytest.approx(20)
    assert all(p.grad is None for p in field.parameters())


def test_it_starts_from_a_surface() -> None:
    """Triangles of an ellipsoid of 0.7, 0.4 and 0.3, which lie where f = 0, give an ellipsoid."""
    field, source = make(encoding=FINE, density="neus"), Tets(Tets.Config(resolution=24, start_axes=(0.7, 0.4, 0.3)))
    source.initialise(seeded())
    with torch.no_grad():
        field.start_from(source.eval())
        off = field.distance(source.surface().vertices)
        assert off.abs().mean() < 0.01
        assert surface_of(sample_density(field, 48), None, 10.0).volume == pytest.approx(4 / 3 * math.pi * 0.084, rel=0.05)


def test_other_options_of_this_class_are_taken_over_by_their_shape() -> None:
    source, field = make(sphere=0.7, encoding=ENCODINGS[1]), make(encoding=FINE)
    with torch.no_grad():
        field.start_from(source)
    points = cube(2000)
    near = ((points.norm(dim=-1) - 0.7).abs() < 0.1).nonzero()[:, 0]
    assert (field.distance(points) - source.distance(points))[near].std() < 0.01
