"""Volume rendering of a density field by emission and absorption. NeRF (Mildenhall et al. 2020), section 4.

Legend: B views, H, W pixels, R = B H W rays, N samples packed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from dfw import (
    Background,
    CameraBatch,
    ComponentConfig,
    ConfigError,
    DensityField,
    FieldSample,
    Geometry,
    LatentField,
    Part,
    Progress,
    Rays,
    RaySamples,
    Renderer,
    RenderOutput,
    draw_views,
)

from . import compositing, marching
from .blocks import Block, cut, in_blocks
from .fast import marching as fast_marching
from .fast import nerfacc_cuda
from .fast.nerfacc_cuda import Backend, uses_nerfacc
from .marching import Occupancy, Samples, everywhere
from .occupancy import OccupancyConfig, OccupancyGrid, Surveyor
from .shading import Lighting, ShadingConfig, lighting_of, normal_colours, shade


@dataclass(frozen=True)
class _Rays:
    """R rays with the index of their view (R,), and the offset of their samples within a step: (R,) or one for all."""

    origin: Tensor
    direction: Tensor
    view: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return int(self.origin.shape[0])

    def at(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Points (N, 3), world units, and the directions (N, 3) of their rays."""
        direction = self.direction[samples.ray]
        return self.origin[samples.ray] + samples.distance[:, None] * direction, direction


@dataclass(frozen=True)
class _Style:
    """What a call shows: whether normals are computed, the light if there is one, or normals as colours."""

    normals: bool
    lighting: Lighting | None
    as_colour: bool = False

    def colour(self, found: FieldSample, points: Tensor, view: Tensor) -> Tensor:
        """Colour (N, 3) of samples at `points` (N, 3) in `view` (N,)."""
        if found.normal is None or (self.lighting is None and not self.as_colour):
            return found.albedo
        if self.lighting is None:
            return normal_colours(found.normal)
        return shade(found.albedo, found.normal, points, view, self.lighting)


class _Own(Enum):
    """What the renderer itself computes in a block. It is not a string, so that a field's extra may have any name."""

    TOTAL = 0
    WEIGHT = 1
    NORMAL = 2


class Volume(Renderer):
    """Renders any `DensityField`: equally spaced samples in occupied cells, shaded, composited over a background.

    What a field says of its points besides (`FieldSample.extras`) is composited like colour, over 0, into `RenderOutput.extras`.
    The latents of a `LatentField` are composited over those of the background's colour.
    """

    class Config(ComponentConfig):
        """Sampling, shading and what is behind the scene."""

        samples: Annotated[int, Field(ge=8, le=4096)] = 96
        """Samples along the diagonal of the scene's cube: the step is 2 sqrt(3) radius / samples; a side has 0.58 of them."""
        occupancy: OccupancyConfig = OccupancyConfig()
        """How empty space is skipped."""
        early_stop: Annotated[float, Field(ge=0, lt=0.1)] = 1e-4
        """Samples that less than this share of the light reaches, as the occupancy grid estimates, are dropped; 0 keeps all."""
        chunk: PositiveInt = 2**17
        """Samples whose densities and colours are computed at once. A step with more keeps no graph of them, and computes them
        again on the way back, so that this bounds its memory. Each sample adds about 100 bytes, and each pixel as many."""
        shading: ShadingConfig = ShadingConfig()
        """From albedo to colour."""
        background: Part[Background] = Part[Background](type="dreamfw/random")
        """What is seen where no matter is."""
        backend: Backend = "auto"
        """`nerfacc`: its CUDA kernels; `portable`: plain torch, any device; `auto`: nerfacc where its kernels load."""

    feature_hints: ClassVar[dict[str, str]] = {"normals": "shading.normals is 'always'"}

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.grid = OccupancyGrid(config.occupancy)
        self.background = config.background.build()
        self._surveyor = Surveyor(config.occupancy)
        self._progress = Progress(0, 1)

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """A density over space."""
        return frozenset({"density-field"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Images and packed samples; normals when they are computed in every step."""
        offered = {"colour", "opacity", "depth", "ray-samples"}
        return frozenset(offered | {"normals"} if config.shading.normals == "always" else offered)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the learned background. Raises ConfigError where the backend cannot work on the generator's device."""
        uses_nerfacc(self.config.backend, generator.device)
        self.background.initialise(generator)

    def begin_step(self, geometry: Geometry, progress: Progress, generator: torch.Generator) -> None:
        """Updates the occupancy grid where it is due."""
        self._progress = progress
        self._surveyor.forget()
        if self.config.occupancy.enabled:
            field = _field(geometry)
            self.grid.update(field, progress, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`renderer.background`, when it is learned."""
        parameters = list(self.background.parameters())
        return {"renderer.background": parameters} if parameters else {}

    def step_length(self, field: DensityField) -> float:
        """Distance between samples, world units."""
        return 2 * math.sqrt(3) * field.radius / self.config.samples

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """As `Renderer`. In evaluation mode it depends on geometry and cameras alone, and leaves no trace.

        Training mode needs a `generator` (ValueError without). Raises ConfigError for a geometry that is not a density field.
        """
        if self.training and generator is None:
            raise ValueError("rendering in training mode draws random numbers; pass a generator, or call eval() first")
        field = _field(geometry)
        with torch.autocast(cameras.position.device.type, enabled=False):
            rays = cameras.rays()
        flat = self._flatten(rays, generator)
        style = self._style(cameras.position, generator)
        behind = self.background(rays.direction, generator)
        occupancy = self._occupancy(field, rays.origin)
        samples = self._march(field, flat, occupancy)
        work = partial(self._composite, field, flat, samples, style)
        sources = [tensor for tensor in (*field.parameters(), flat.origin, flat.direction) if tensor.requires_grad]
        found = in_blocks(work, cut(samples.ray, len(flat), self.config.chunk), sources, flat.origin.device)

        shape = (len(cameras), cameras.height, cameras.width)
        total, weight = found.pop(_Own.TOTAL).view(*shape, -1), found.pop(_Own.WEIGHT)
        opacity, depth = total[..., 3], compositing.expected_distance(total[..., 4], total[..., 3])
        colour = total[..., :3] + (1 - opacity)[..., None] * behind
        widths = [value.shape[-1] for value in found.values()]
        seen = dict(zip(found, torch.split(total[..., 5:], widths, dim=-1) if widths else (), strict=True))
        normals = found.pop(_Own.NORMAL, None), seen.pop(_Own.NORMAL, None)
        if isinstance(field, LatentField):
            seen["latents"] = seen["latents"] + (1 - opacity)[..., None] * field.latents_of(behind)
        packed = RaySamples(weight, samples.ray, samples.distance, flat.direction[samples.ray], normals[0], found)
        return RenderOutput(colour, opacity, depth, normals[1], packed, extras=seen)

    def _flatten(self, rays: Rays, generator: torch.Generator | None) -> _Rays:
        """One row per ray. Offsets are uniform while training, one per ray, and midpoints in evaluation."""
        views = rays.origin.shape[0]
        origin, direction = rays.origin.reshape(-1, 3), rays.direction.reshape(-1, 3)
        view = torch.arange(views, device=origin.device).repeat_interleave(origin.shape[0] // views)
        offset = torch.full_like(origin[:, 0], 0.5)
        if self.training:
            offset = draw_views(torch.rand, offset.shape, generator, offset.device).to(offset)
        return _Rays(origin, direction, view, offset)

    def _style(self, camera: Tensor, generator: torch.Generator | None) -> _Style:
        """What this call shows; decided on the host, so that normals are computed only where something needs them."""
        shading = self.config.shading
        mode = shading.mode if self.training else shading.eval_shading
        lighting = lighting_of(mode, camera, shading, self._progress, self.training, generator)
        normals = shading.normals == "always" or mode == "normal" or lighting is not None
        return _Style(normals, lighting, mode == "normal")

    def _occupancy(self, field: DensityField, like: Tensor) -> Occupancy:
        if not self.config.occupancy.enabled:
            return everywhere(field.radius, like)
        if self.training or self.hurried:  # a survey takes longer than a step, and a watched scene changes in every step
            return self.grid.occupancy(field.radius)
        return self._surveyor(field, like)

    def _march(self, field: DensityField, rays: _Rays, occupancy: Occupancy) -> Samples:
        native = uses_nerfacc(self.config.backend, rays.origin.device)
        portable = fast_marching.march if fast_marching.serves(rays.origin) else marching.march
        march = nerfacc_cuda.march if native else portable
        with torch.no_grad():
            step = self.step_length(field)
            return march(rays.origin, rays.direction, occupancy, step, rays.offset, self.config.early_stop)

    def _composite(self, field: DensityField, rays: _Rays, samples: Samples, style: _Style, block: Block) -> dict[Any, Tensor]:
        """Returns the weights (N,) of a block's N samples, their normals and extras (N, C), and the total (R, 5 + C) of its rays.

        The total is of colour, opacity, distance, normals and extras, in this order.
        """
        part, count = samples.part(block.start, block.stop), block.last - block.first
        points, directions = rays.at(part)
        found = field.segment(points, directions, part.length, style.normals)
        local = replace(part, ray=part.ray - block.first)
        if uses_nerfacc(self.config.backend, rays.origin.device):
            weight = nerfacc_cuda.weights(found.density, local, count)
        else:
            weight = compositing.weights(found.density, local)
        inside: dict[Any, Tensor] = dict(found.extras) if found.normal is None else {_Own.NORMAL: found.normal, **found.extras}
        colour = style.colour(found, points, rays.view[part.ray])
        shown = [colour, torch.ones_like(weight)[:, None], part.distance[:, None], *inside.values()]
        total = compositing.sum_per_ray(weight[:, None] * torch.cat(shown, dim=1), local.ray, count)
        return {_Own.TOTAL: total, _Own.WEIGHT: weight, **inside}


def _field(geometry: Geometry) -> DensityField:
    if not isinstance(geometry, DensityField):
        raise ConfigError(
            f"renderer: volume renders density fields, and {type(geometry).__name__} is none; "
            "write renderer: {type: dreamfw/plane} for images"
        )
    return geometry
