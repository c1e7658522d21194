"""Renders triangle meshes: rasterised, interpolated, shaded, with smooth silhouettes, composited over a background.

Legend: B views, H, W pixels, N covered pixels of all views, packed.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
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
from .antialiasing import edges_of
from .compositing import expected_distance
from .normals import interpolated, vertex_normals
from .rasteriser import Hits
from .shading import LightConfig, Lighting, camera_lighting, draw_lighting, normal_colours, shade


class SurfaceShading(LightConfig):
    """From a surface's material to its colour."""

    mode: Literal["albedo", "lambertian", "normal"] = "albedo"
    """In training. `albedo`: unchanged. `lambertian`: the mixture of lit views. `normal`: normals as colours."""
    eval_shading: Literal["albedo", "lambertian", "normal"] = "albedo"
    """What previews and turntables show. Their light stands at the camera."""


class Mesh(Renderer):
    """Renders any `Surface`: each pixel shows the nearest triangle, from either side, and silhouettes are smooth.

    Gradients reach the corners through what a pixel shows, and through where silhouettes pass between pixels (Laine et al. 2020).
    Albedo, roughness and metallic are composited like colour, over 0, into `RenderOutput.extras`.
    """

    class Config(ComponentConfig):
        """Shading, and what is behind the scene."""

        shading: SurfaceShading = SurfaceShading()
        """From material to colour."""
        background: Part[Background] = Part[Background](type="dreamfw/random")
        """What is seen where no surface is."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.background = config.background.build()
        self._progress = Progress(0, 1)

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A triangle mesh with a material."""
        return frozenset({"surface"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Images and normals."""
        return frozenset({"colour", "opacity", "depth", "normals"})

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the learned background."""
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
                shown, depth = rasteriser.nearest(points, faces, cameras.height, cameras.width)
            hits = rasteriser.meet(vertices, faces, shown, cameras.position, rays.direction)
            edges = edges_of(faces)
            smooth = antialiasing.blend(points, antialiasing.silhouettes(points.detach(), faces, edges), edges, depth)
        material = geometry.material(SurfacePoints(hits.position, hits.face, hits.barycentric))
        towards = F.normalize(cameras.position.to(vertices).index_select(0, hits.view) - hits.position, dim=-1)
        distance = (cameras.position.to(vertices).index_select(0, hits.view) - hits.position).norm(dim=-1)
        normal = self._normal(vertices, faces, hits, material, towards)
        colour = self._colour(material, normal, hits, cameras.position, generator)
        extras = {"albedo": material.albedo}
        for name, value in (("roughness", material.roughness), ("metallic", material.metallic)):
            if value is not None:
                extras[name] = value[:, None]
        behind = self.background(rays.direction, generator)

        parts = [colour, torch.ones_like(distance)[:, None], distance[:, None], normal, *extras.values()]
        packed = torch.cat([part.to(colour) for part in parts], dim=1)
        picture = smooth(packed.new_zeros(depth.numel(), packed.shape[1]).index_copy(0, hits.pixel, packed))
        picture = picture.view(*depth.shape, -1)
        opacity = picture[..., 3].clamp(0, 1)
        colour = picture[..., :3] + (1 - opacity)[..., None] * behind
        widths = [value.shape[1] for value in extras.values()]
        seen = dict(zip(extras, torch.split(picture[..., 8:], widths, dim=-1), strict=True))
        return RenderOutput(colour, opacity, expected_distance(picture[..., 4], opacity), picture[..., 5:8], extras=seen)

    def _normal(self, vertices: Tensor, faces: Tensor, hits: Hits, material: Material, towards: Tensor) -> Tensor:
        """Unit normals (N, 3) that look to the viewer's side of the triangle."""
        corner = faces.index_select(0, hits.face)
        normal = F.normalize(interpolated(vertex_normals(vertices, faces), corner, hits.barycentric), dim=-1, eps=1e-8)
        if material.bump is not None:
            normal = F.normalize(normal + material.bump, dim=-1, eps=1e-8)
        with torch.no_grad():
            p, q, r = (vertices.index_select(0, corner[:, k]) for k in range(3))
            behind = (torch.linalg.cross(q - p, r - p) * towards).sum(-1) < 0
        return torch.where(behind[:, None], -normal, normal)

    def _colour(
        self, material: Material, normal: Tensor, hits: Hits, camera: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Colours (N, 3)."""
        mode = self.config.shading.mode if self.training else self.config.shading.eval_shading
        if mode == "normal":
            return normal_colours(normal)
        lighting = self._lighting(mode, camera, generator)
        if lighting is None:
            return material.albedo
        return shade(material.albedo, normal, hits.position, hits.view, lighting)

    def _lighting(self, mode: str, camera: Tensor, generator: torch.Generator | None) -> Lighting | None:
        """The light of each view, None where all show their albedo."""
        shading = self.config.shading
        if mode == "albedo":
            return None
        if not self.training:
            return camera_lighting(camera, shading)
        if self._progress.fraction < shading.start:
            return None
        return draw_lighting(camera, shading, self._progress, generator)
