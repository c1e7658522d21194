"""Physically based shading: integrals whose value is known, formulas by hand, and derivatives."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import Material
from dfw_renderers.physical import (
    ambient_diffuse,
    ambient_mirrored,
    display,
    facets,
    harmonics,
    linear,
    mirrored_share,
    physical,
)
from dfw_renderers.shading import WHITE_SKY, SurfaceShadingConfig

UP = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)


def sphere_of(count: int) -> tuple[Tensor, float]:
    """Directions (N, 3) that cover the sphere evenly (Fibonacci), and the solid angle of each."""
    k = torch.arange(count, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * k / count, math.pi * (1 + 5**0.5) * k
    r = (1 - z * z).sqrt()
    return torch.stack([r * angle.cos(), r * angle.sin(), z], -1), 4 * math.pi / count


def test_display_and_linear_undo_each_other() -> None:
    given = torch.linspace(0, 1, 257, dtype=torch.float64)
    assert torch.allclose(display(linear(given)), given, atol=1e-7)
    assert linear(torch.tensor(0.5)).item() == pytest.approx(0.21404114)  # IEC 61966-2-1
    assert linear(torch.tensor(0.04)).item() == pytest.approx(0.04 / 12.92)
    assert display(torch.tensor([-1.0, 3.0])).tolist() == pytest.approx([0.0, 1.0])


def test_display_has_finite_slopes_at_black() -> None:
    light = torch.tensor([0.0, 0.001, 0.5], requires_grad=True)
    display(light).sum().backward()
    assert light.grad is not None
    assert light.grad[0].item() == pytest.approx(12.92)
    assert bool(light.grad.isfinite().all())


def test_harmonics_are_orthonormal() -> None:
    direction, share = sphere_of(20000)
    values = harmonics(direction, 9)
    assert torch.allclose(share * values.T @ values, torch.eye(9, dtype=torch.float64), atol=2e-4)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_ambient_light_is_the_integral_over_the_environment(count: int) -> None:
    """Irradiance over pi on a surface, by the definition: cosine times radiance, summed over 20,000 directions."""
    generator = torch.Generator().manual_seed(count)
    environment = 0.1 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    environment[0] = 3.0  # radiance stays above 0
    direction, share = sphere_of(20000)
    radiance = harmonics(direction, count) @ environment
    for normal in F.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=-1):
        expected = (share * (direction @ normal).clamp(min=0)[:, None] * radiance).sum(0) / math.pi
        assert torch.allclose(ambient_diffuse(normal[None], environment)[0], expected, rtol=2e-3)


def test_a_mirror_shows_the_environment_and_a_rough_one_its_mean() -> None:
    environment = torch.tensor([[2.0, 2.0, 2.0], [0.3, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.2]], dtype=torch.float64)
    direction = sphere_of(50)[0]
    clear = ambient_mirrored(direction, torch.full((50,), 1e-4, dtype=torch.float64), environment)
    assert torch.allclose(clear, harmonics(direction, 4) @ environment, atol=1e-6)
    blurred = ambient_mirrored(direction, torch.ones(50, dtype=torch.float64), environment)
    mean = 2 * 0.282095
    assert torch.allclose((blurred - mean) / (clear - mean), torch.full((50, 3), math.exp(-1), dtype=torch.float64), atol=1e-6)


def test_the_white_sky_has_radiance_1() -> None:
    assert ambient_diffuse(UP, UP.new_tensor([WHITE_SKY]))[0].tolist() == pytest.approx([1, 1, 1], abs=1e-4)


@pytest.mark.parametrize("roughness", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("slant", [0.0, 40.0, 70.0])
def test_facets_reflect_no_more_than_they_receive(roughness: float, slant: float) -> None:
    """A white metal under an even sky: the integral of D V cos. At roughness 1 that is 1 - v ln(1 + 1/v), v the eye's cosine.

    Smoother facets hide each other less, and reflect more, at most everything.
    """
    to_light, share = sphere_of(200000)
    to_light = to_light[to_light[:, 2] > 0]
    eye = torch.tensor([[math.sin(math.radians(slant)), 0.0, math.cos(math.radians(slant))]], dtype=torch.float64)
    alpha, white = torch.full((len(to_light),), roughness**2, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    layer, fresnel = facets(UP.expand_as(to_light), eye.expand_as(to_light), to_light, alpha, white)
    total = float((share * layer * to_light[:, 2]).sum())
    cosine = float(eye[0, 2])
    roughest = 1 - cosine * math.log(1 + 1 / cosine)
    assert torch.allclose(fresnel, torch.ones_like(fresnel))
    assert total == pytest.approx(roughest, abs=1e-3) if roughness == 1 else roughest < total <= 1.001


@pytest.mark.parametrize("roughness", [0.3, 0.6])
@pytest.mark.parametrize("slant", [10.0, 50.0])
def test_the_share_of_an_even_sky_is_the_facets_integral(roughness: float, slant: float) -> None:
    """Karis's fit against the integral of D V F cos for a dielectric, to 0.03."""
    to_light, share = sphere_of(200000)
    to_light = to_light[to_light[:, 2] > 0]
    eye = torch.tensor([[math.sin(math.radians(slant)), 0.0, math.cos(math.radians(slant))]], dtype=torch.float64)
    alpha, base = torch.full((len(to_light),), roughness**2, dtype=torch.float64), torch.full((1, 3), 0.04, dtype=torch.float64)
    layer, fresnel = facets(UP.expand_as(to_light), eye.expand_as(to_light), to_light, alpha, base)
    expected = float((share * layer * fresnel[:, 0] * to_light[:, 2]).sum())
    found = mirrored_share(base, torch.tensor([roughness], dtype=torch.float64), eye[:, 2])[0, 0].item()
    assert found == pytest.approx(expected, abs=0.03)


def test_facets_by_hand() -> None:
    """Eye and light in the normal's direction: D = 1 / (pi alpha^2), V = 1 / 4, F = F0."""
    layer, fresnel = facets(UP, UP, UP, torch.tensor([0.25], dtype=torch.float64), torch.full((1, 3), 0.04, dtype=torch.float64))
    assert layer.item() == pytest.approx(1 / (math.pi * 0.25**2) / 4)
    assert fresnel[0].tolist() == pytest.approx([0.04] * 3)


def test_facets_at_grazing_angles_reflect_everything() -> None:
    eye = F.normalize(torch.tensor([[1.0, 0.0, 1e-3]], dtype=torch.float64), dim=-1)
    light = eye * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    _, fresnel = facets(UP, eye, light, torch.tensor([0.25], dtype=torch.float64), torch.full((1, 3), 0.04, dtype=torch.float64))
    assert fresnel[0].tolist() == pytest.approx([1.0] * 3, abs=0.01)


def colour(material: Material, cosine: float, ambient: float, diffuse: float, dtype: torch.dtype = torch.float64) -> list[float]:
    light = torch.tensor([[math.sqrt(1 - cosine**2), 0.0, cosine]], dtype=dtype)
    one = torch.ones(1, dtype=dtype)
    found: list[float] = physical(material, UP.to(dtype), UP.to(dtype), light, ambient * one, diffuse * one, [WHITE_SKY])[
        0
    ].tolist()
    return found


def test_a_matt_surface_is_lambertian_in_linear_light() -> None:
    albedo = torch.tensor([[0.9, 0.5, 0.2]], dtype=torch.float64)
    expected = display(linear(albedo) * (0.3 + 0.6 * 0.8))[0].tolist()
    assert colour(Material(albedo), 0.8, 0.3, 0.6) == pytest.approx(expected, abs=1e-4)


def test_a_glossy_surface_is_base_and_layer() -> None:
    """Light and eye in the normal's direction, roughness 0.5: 0.96 of the base, and F0 pi D V = 0.04 / (4 alpha^2)."""
    albedo, half = torch.tensor([[0.4, 0.3, 0.2]], dtype=torch.float64), torch.full((1,), 0.5, dtype=torch.float64)
    base, layer = linear(albedo), 0.04 / (4 * 0.25**2)
    found = colour(Material(albedo, half), 1.0, 0.0, 0.7)
    assert found == pytest.approx(display(0.7 * (0.96 * base + layer))[0].tolist(), abs=1e-6)
    share = mirrored_share(torch.full((1, 3), 0.04, dtype=torch.float64), half, torch.ones(1, dtype=torch.float64))
    found = colour(Material(albedo, half), 1.0, 0.6, 0.0)
    assert found == pytest.approx(display(0.6 * (base * (1 - share) + share))[0].tolist(), abs=1e-4)


def test_a_metal_mirrors_its_colour_and_has_no_other() -> None:
    """The light stands beside the mirrored direction of a smooth one, so that nothing is seen; roughness 1 shows its base."""
    albedo, one = torch.tensor([[0.9, 0.5, 0.2]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert colour(Material(albedo, 0.1 * one, one), 0.3, 0.0, 1.0) == pytest.approx([0, 0, 0], abs=0.01)
    rough = linear(torch.tensor(colour(Material(albedo, one, one), 0.9, 0.0, 1.0), dtype=torch.float64))
    assert (rough / linear(albedo[0])).tolist() == pytest.approx([float(rough[0] / linear(albedo[0, 0]))] * 3, rel=0.02)
    assert colour(Material(albedo, None, one), 0.9, 0.0, 1.0) == colour(Material(albedo, one, one), 0.9, 0.0, 1.0)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("roughness", [0.0, 0.02, 0.3, 1.0])
def test_colours_are_in_range_and_gradients_finite_in_float32(roughness: float, metallic: float) -> None:
    """For 500 random directions, among them lights and eyes below the surface, and exactly mirrored ones."""
    generator = torch.Generator().manual_seed(0)
    normal, eye, light = (F.normalize(torch.randn(500, 3, generator=generator), dim=-1) for _ in range(3))
    light[:50] = 2 * (normal * eye).sum(-1, keepdim=True)[:50] * normal[:50] - eye[:50]
    light[50:60] = -eye[50:60]
    given = [normal, eye, light, torch.rand(500, 3, generator=generator)]
    normal, eye, light, albedo = (value.requires_grad_() for value in given)
    one = torch.ones(500)
    material = Material(albedo, (roughness * one).requires_grad_(), (metallic * one).requires_grad_())
    found = physical(material, normal, eye, light, 0.5 * one, one, [WHITE_SKY])
    assert found.min() >= 0
    assert found.max() <= 1
    found.sum().backward()
    for value in (normal, eye, light, albedo, material.roughness, material.metallic):
        assert value is not None
        assert value.grad is not None
        assert bool(value.grad.isfinite().all())


def test_gradients_equal_finite_differences() -> None:
    """In colour, roughness, metallic, normal, and the direction and strength of the light."""
    generator = torch.Generator().manual_seed(3)
    environment = [(2.0, 1.8, 1.6), (0.1, 0.2, 0.3), (0.5, 0.4, 0.3), (0.0, -0.2, 0.1)]
    near = torch.tensor([0.0, 0.0, 2.0])
    parts = [F.normalize(torch.randn(5, 3, generator=generator) + near, dim=-1).double() for _ in range(3)]
    parts += [0.2 + 0.5 * torch.rand(5, 3, generator=generator).double()]
    parts += [0.3 + 0.4 * torch.rand(5, generator=generator).double() for _ in range(4)]

    def shown(
        normal: Tensor, eye: Tensor, light: Tensor, albedo: Tensor, rough: Tensor, metal: Tensor, *strength: Tensor
    ) -> Tensor:
        return physical(Material(albedo, rough, metal), normal, eye, light, *strength, environment)

    assert torch.autograd.gradcheck(shown, [part.requires_grad_() for part in parts])


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_an_environment_has_whole_degrees(count: int) -> None:
    with pytest.raises(ValueError, match="write 1, 4 or 9"):
        SurfaceShadingConfig.model_validate({"environment": [[1, 1, 1]] * count})
