"""Scenes whose pictures are known, cameras to look at them, and a plain renderer: what the checks show components.

World: right-handed, z up; pixel (row, column) counts from the upper left, its centre at (row + 0.5, column + 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import CameraBatch, FieldSample, Material, RenderOutput, SurfacePoints, Triangles
from dfw.interfaces.geometry import DensityField, Geometry, SignedDistance, Surface
from dfw.interfaces.poses import cameras_at
from dfw.interfaces.renderer import Renderer


class _Field(DensityField):
    """Half-width 1; `provides` a density field."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        """A density and an albedo over space."""
        return frozenset({"density-field"})

    @property
    def radius(self) -> float:
        """1."""
        return 1.0


class Ball(_Field):
    """A ball of one `density` (1/unit) and `colour` around the origin; nothing else. Density 0 makes an empty scene."""

    def __init__(self, density: float, radius: float = 0.6, colour: Sequence[float] = (0.9, 0.5, 0.2)) -> None:
        super().__init__()
        self.ball_radius = radius
        self.amount = nn.Parameter(torch.tensor(float(density)))
        self.colour = nn.Parameter(torch.tensor(colour))

    def density(self, points: Tensor) -> Tensor:
        """The density inside, 0 outside."""
        return torch.where(points.norm(dim=-1) <= self.ball_radius, self.amount.to(points), points.new_zeros(()))

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """One colour everywhere; normals point away from the centre."""
        normal = F.normalize(points, dim=-1, eps=1e-6) if normals else None
        return FieldSample(self.density(points), self.colour.to(points).expand_as(points), normal)


class Blobs(_Field):
    """K Gaussian blobs of density with a colour each, all trainable: smooth, so that finite differences are exact."""

    def __init__(
        self, height: Sequence[float], centre: Sequence[Sequence[float]], size: Sequence[float], colour: Sequence[Sequence[float]]
    ) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.tensor(height))
        self.centre = nn.Parameter(torch.tensor(centre))
        self.size = nn.Parameter(torch.tensor(size))
        self.colour = nn.Parameter(torch.tensor(colour))

    def _parts(self, points: Tensor) -> Tensor:
        squared = (points[..., None, :] - self.centre).square().sum(-1)
        inside = (points.abs().amax(-1) <= self.radius)[..., None]
        return self.height * torch.exp(-squared / (2 * self.size**2)) * inside

    def density(self, points: Tensor) -> Tensor:
        """sum_k h_k exp(-|x - c_k|^2 / (2 s_k^2)), 1/unit."""
        return self._parts(points).sum(-1)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """Colours mixed by density; analytic normals."""
        parts = self._parts(points)
        density = parts.sum(-1)
        albedo = (parts @ self.colour) / (density[..., None] + 1e-9)
        if not normals:
            return FieldSample(density, albedo)
        down = ((points[..., None, :] - self.centre) * (parts / self.size**2)[..., None]).sum(-2)
        return FieldSample(density, albedo, F.normalize(down, dim=-1, eps=1e-8))


class DistanceBall(_Field, SignedDistance):
    """A ball of trainable place, size and colour, by its signed distance f: the density is 20 / (1 + exp(20 f))."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.tensor([0.1, -0.2, 0.1]))
        self.size = nn.Parameter(torch.tensor(0.5))
        self.colour = nn.Parameter(torch.tensor([0.9, 0.5, 0.2]))

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        """A density field of a signed distance."""
        return frozenset({"density-field", "signed-distance"})

    def distance(self, points: Tensor) -> Tensor:
        """|x - centre| - size."""
        return ((points - self.centre).square().sum(-1) + 1e-12).sqrt() - self.size

    def density(self, points: Tensor) -> Tensor:
        """Half of 20 per unit at the surface, 0 outside the cube."""
        return 20 * torch.sigmoid(-20 * self.distance(points)) * (points.abs().amax(-1) <= self.radius)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """One colour everywhere; the gradient is 1 long."""
        albedo = self.colour.to(points).expand_as(points)
        if not normals:
            return FieldSample(self.density(points), albedo)
        normal = F.normalize(points - self.centre, dim=-1, eps=1e-6)
        return FieldSample(self.density(points), albedo, normal, {"gradient": torch.ones_like(points[..., :1])})


def two_blobs() -> Blobs:
    """An ordinary scene: two overlapping blobs."""
    return Blobs([6.0, 9.0], [[0.1, -0.2, 0.1], [-0.2, 0.3, -0.1]], [0.3, 0.25], [[0.9, 0.3, 0.1], [0.2, 0.5, 0.7]])


def speck(centre: Sequence[float], height: float = 20.0, size: float = 0.1) -> Blobs:
    """A small blob at `centre`, opaque in its middle unless `height` (1/unit) is low."""
    return Blobs([height], [list(centre)], [size], [[0.9, 0.5, 0.2]])


def soft_ball(centre: Sequence[float]) -> Blobs:
    """One blob, opaque in its middle and thin at its rim, with a slope everywhere: its normals point away from `centre`."""
    return Blobs([30.0], [list(centre)], [0.2], [[0.9, 0.5, 0.2]])


class Octahedron(Surface):
    """Six trainable corners, `radius` units from `centre`, eight triangles, one trainable `colour`."""

    FACES = ((0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5))

    def __init__(
        self, radius: float = 0.6, centre: Sequence[float] = (0.0, 0.0, 0.0), colour: Sequence[float] = (0.9, 0.5, 0.2)
    ) -> None:
        super().__init__()
        self.config = ComponentConfig()
        axes = radius * torch.stack([sign * torch.eye(3)[k] for k in range(3) for sign in (1, -1)])
        self.corners = nn.Parameter(torch.tensor(centre) + axes)
        self.colour = nn.Parameter(torch.tensor(colour))
        self.faces: Tensor
        self.register_buffer("faces", torch.tensor(self.FACES), persistent=False)

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        """A triangle mesh."""
        return frozenset({"surface", "albedo"})

    def surface(self) -> Triangles:
        """The eight triangles."""
        return Triangles(self.corners, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        """One colour everywhere."""
        return Material(self.colour.to(at.position).expand_as(at.position))


def uneven_octahedron() -> Octahedron:
    """An octahedron whose corners are 0.5 to 0.7 units away: where all are alike, gradients of its shape are 0 by symmetry."""
    made = Octahedron(radius=1)
    with torch.no_grad():
        made.corners.mul_(torch.linspace(0.5, 0.7, 6)[:, None])
    return made


class CrossedEdges(Geometry):
    """Twelve edges of a grid with trainable values at their ends, one below 0 and one above."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()
        size = torch.linspace(0.05, 0.6, 12)
        self.ends = nn.Parameter(torch.stack([-size, size.flip(0)], dim=1))

    @classmethod
    def provides(cls, config: object) -> frozenset[str]:
        """Values on a grid."""
        return frozenset({"signed-grid"})

    def crossings(self) -> Tensor:
        """The values (12, 2)."""
        return self.ends


def no_triangles(colour: Sequence[float]) -> Octahedron:
    """An octahedron that has lost its triangles, as a shape does that shrinks to nothing."""
    made = Octahedron(colour=colour)
    made.faces = made.faces[:0]
    return made


class Marcher(Renderer):
    """32 samples at equal distances on each ray, from 1 to 5 units, over white. NeRF (Mildenhall et al. 2020), eq. 3."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """Nothing is drawn."""
        assert isinstance(geometry, DensityField)
        rays, step = cameras.rays(), 4 / 32
        distance = 1 + step * (torch.arange(32, device=rays.origin.device, dtype=rays.origin.dtype) + 0.5)
        found = geometry.sample(rays.origin[..., None, :] + distance[:, None] * rays.direction[..., None, :])
        thickness = found.density * step
        weight = torch.exp(thickness - thickness.cumsum(-1)) * -torch.expm1(-thickness)
        opacity = weight.sum(-1)
        colour = (weight[..., None] * found.albedo).sum(-2) + (1 - opacity)[..., None]
        return RenderOutput(colour, opacity, (weight * distance).sum(-1) / opacity.clamp(min=1e-8))


def normals_seen(blobs: Blobs, cameras: CameraBatch, samples: int = 1024) -> tuple[Tensor, Tensor]:
    """Opacity (B, H, W) and normals (B, H, W, 3), weighted sums along each ray: by 1,024 midpoints from 1 to 5 units away."""
    rays, step = cameras.rays(), 4 / samples
    distance = 1 + step * (torch.arange(samples, device=rays.origin.device, dtype=rays.origin.dtype) + 0.5)
    found = blobs.sample(rays.origin[..., None, :] + distance[:, None] * rays.direction[..., None, :], normals=True)
    assert found.normal is not None
    thickness = found.density * step
    weight = torch.exp(thickness - thickness.cumsum(-1)) * -torch.expm1(-thickness)
    return weight.sum(-1).detach(), (weight[..., None] * found.normal).sum(-2).detach()


def views(
    angles: Sequence[tuple[float, float]], height: int, width: int, fov: float = 40.0, dtype: torch.dtype = torch.float32
) -> CameraBatch:
    """Cameras at (azimuth, elevation), degrees, 3 units from the origin, which they look at."""
    azimuth, elevation = (torch.tensor([pair[axis] for pair in angles], dtype=dtype) for axis in (0, 1))
    full = torch.ones_like(azimuth)
    return cameras_at(azimuth, elevation, 3 * full, full * fov, height, width)


def seen_at(point: Sequence[float], azimuth: float, elevation: float, fov: float, height: int, width: int) -> tuple[float, float]:
    """Row and column, in pixels from the upper left corner, where a camera of `views` sees a world `point`.

    Written from the definitions and not from the project's own camera code: forward f looks at the origin, right r = f x z,
    up u = r x f; the image plane is at distance 1, its upper edge at tan(fov / 2).
    """
    az, el = math.radians(azimuth), math.radians(elevation)
    eye = [3 * math.cos(el) * math.cos(az), 3 * math.cos(el) * math.sin(az), 3 * math.sin(el)]
    forward = [-c / 3 for c in eye]
    right = [-math.sin(az), math.cos(az), 0.0]
    up = [-math.sin(el) * math.cos(az), -math.sin(el) * math.sin(az), math.cos(el)]
    away = [p - e for p, e in zip(point, eye, strict=True)]
    ahead, along, above = (sum(a * b for a, b in zip(axis, away, strict=True)) for axis in (forward, right, up))
    half = math.tan(math.radians(fov) / 2)
    column = (along / ahead / (half * width / height) + 1) * width / 2
    row = (1 - above / ahead / half) * height / 2
    return row, column
