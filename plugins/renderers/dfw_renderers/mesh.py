"""Renders triangle meshes: rasterised, interpolated, shaded, with smooth silhouettes, composited over a background.

Legend: B views, H, W pixels, N covered pixels of all views, packed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dfw import (
    Background,
    CameraBatch,
    ComponentConfig,
    ConfigError,
    Geometry,
    Material,
    Part,
    Progress,
    Renderer,
    RenderOutput,
    Surface,
    SurfacePoints,
)

from . import antialiasing, rasteriser
from .compositing import expected_distance
from .fast import nvdiffrast_cuda
from .fast.nvdiffrast_cuda import Rasteriser, uses_nvdiffrast
from .normals import interpolated, unit, vertex_normals
from .physical import physical
from .rasteriser import Hits
from .shading import SurfaceShadingConfig, lighting_of, normal_colours, shade


@dataclass(frozen=True)
class _Points:
    """The N points that are seen: material, unit normal on the viewer's side, unit direction to the eye, and its distance."""

    hits: Hits
    material: Material
    normal: Tensor
    to_eye: Tensor
    distance: Tensor


class Mesh(Renderer):
    """Renders any `Surface`: each pixel shows the nearest triangle, from either side, and silhouettes are smooth.

    Gradients reach the corners through what a pixel shows, and through where silhouettes pass between pixels (Laine et al. 2020).
    Albedo, roughness and metallic are composited like colour, over 0, into `RenderOutput.extras`.
    """

    class Config(ComponentConfig):
        """Shading, and what is behind the scene."""

        shading: SurfaceShadingConfig = SurfaceShadingConfig()
        """From material to colour."""
        background: Part[Background] = Part[Background](type="dreamfw/random")
        """What is seen where no surface is."""
        rasteriser: Rasteriser = "warp"
        """What finds the triangle that each pixel shows. `warp`: any device. `nvdiffrast`: its CUDA kernels; not yet tried."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.background = config.background.build()
        self._progress = Progress(0, 1)
        self._edges = antialiasing.KnownEdges()

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A triangle mesh with a material."""
        return frozenset({"surface"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Images and normals."""
        return frozenset({"colour", "opacity", "depth", "normals"})

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the learned background. Raises ConfigError where `rasteriser` cannot work on the run's device."""
        uses_nvdiffrast(self.config.rasteriser, generator.device)
        self.background.initialise(generator)

    def begin_step(self, geometry: Geometry, progress: Progress, generator: torch.Generator) -> None:
        """Remembers the time, for shading that begins later."""
        self._progress = progress

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`renderer.background`, when it is learned."""
        parameters = list(self.background.parameters())
        return {"renderer.background": parameters} if parameters else {}

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """As `Renderer`. In evaluation mode it depends on geometry and cameras alone, and leaves no trace.

        Training mode needs a `generator` (ValueError without). Raises ConfigError for a geometry that is not a surface.
        """
        if self.training and generator is None:
            raise ValueError("rendering in training mode draws random numbers; pass a generator, or call eval() first")
        if not isinstance(geometry, Surface):
            raise ConfigError(
                f"renderer: mesh renders surfaces, and {type(geometry).__name__} is not one; "
                "write renderer: {type: dreamfw/volume} for a density field"
            )
        triangles = geometry.surface()
        vertices, faces = triangles.vertices, triangles.faces
        with torch.autocast(vertices.device.type, enabled=False):
            rays = cameras.rays()
            points = rasteriser.to_pixels(vertices, cameras)
            with torch.no_grad():
                shown, depth = self._nearest(points, faces, cameras.height, cameras.width)
                turned = rasteriser.turned_away(points, faces)
            hits = rasteriser.meet(vertices, faces, shown, cameras.position, rays.direction)
            smooth = antialiasing.blend(points, self._edges(faces), turned, shown, depth)
        material = geometry.material(SurfacePoints(hits.position, hits.face, hits.barycentric))
        seen = self._seen(vertices, faces, turned, hits, material, cameras.position)
        colour = self._colour(seen, cameras.position, generator)
        extras = _extras(material)
        # the albedo alone need not be composited twice
        shown_extras = {name: value for name, value in extras.items() if value is not colour}
        parts = [colour, torch.ones_like(seen.distance)[:, None], seen.distance[:, None], seen.normal, *shown_extras.values()]
        packed = torch.cat(parts, dim=1)
        picture = smooth(packed.new_zeros(depth.numel(), packed.shape[1]).index_copy_(0, hits.pixel, packed))
        channels = torch.split(picture, [part.shape[1] for part in parts], dim=1)
        total, opacity, distance, normal, *rest = (part.view(*depth.shape, part.shape[1]) for part in channels)
        composited = dict.fromkeys(extras, total) | dict(zip(shown_extras, rest, strict=True))
        opacity, distance = opacity.squeeze(-1), distance.squeeze(-1)
        behind = self.background(rays.direction, generator)
        colour = total + (1 - opacity)[..., None] * behind
        return RenderOutput(colour, opacity, expected_distance(distance, opacity), normal, extras=composited)

    def _nearest(self, points: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The triangle (B, H, W) that each pixel shows, and its depth."""
        if uses_nvdiffrast(self.config.rasteriser, points.device):
            return nvdiffrast_cuda.nearest(points, faces, height, width, rasteriser.NEAR)
        return rasteriser.nearest(points, faces, height, width)

    def _seen(self, vertices: Tensor, faces: Tensor, turned: Tensor, hits: Hits, material: Material, camera: Tensor) -> _Points:
        """Adds normals: smooth ones, bent by the material, turned to the side from which the triangle is seen."""
        corner = faces.index_select(0, hits.face)
        normal = unit(interpolated(vertex_normals(vertices, faces), corner, hits.barycentric))
        if material.bump is not None:
            normal = unit(normal + material.bump)
        away = camera.to(vertices).index_select(0, hits.view) - hits.position
        behind = turned.flatten().index_select(0, hits.view * len(faces) + hits.face)[:, None]
        distance = away.norm(dim=-1)
        return _Points(hits, material, torch.where(behind, -normal, normal), away / distance[:, None], distance)

    def _colour(self, seen: _Points, camera: Tensor, generator: torch.Generator | None) -> Tensor:
        """Colours (N, 3)."""
        shading, albedo = self.config.shading, seen.material.albedo
        mode = shading.mode if self.training else shading.eval_shading
        if mode == "normal":
            return normal_colours(seen.normal)
        lighting = lighting_of(mode, camera.to(albedo), shading, self._progress, self.training, generator)
        if lighting is None:
            return albedo
        position, view = seen.hits.position, seen.hits.view
        if mode == "lambertian":
            return shade(albedo, seen.normal, position, view, lighting)
        white, lit = lighting.textureless[view][:, None], lighting.lit[view][:, None]
        material = replace(seen.material, albedo=albedo + white * (1 - albedo))
        to_light, ambient, diffuse = unit(lighting.position[view] - position), lighting.ambient[view], lighting.diffuse[view]
        colour = physical(material, seen.normal, seen.to_eye, to_light, ambient, diffuse, shading.environment)
        return torch.where(lit > 0, colour, albedo)


def _extras(material: Material) -> dict[str, Tensor]:
    """What else is known of points, each (N, C)."""
    single = {"roughness": material.roughness, "metallic": material.metallic}
    return {"albedo": material.albedo} | {name: value[:, None] for name, value in single.items() if value is not None}
