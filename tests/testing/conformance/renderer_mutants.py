"""A right renderer of density fields, dense and slow, and wrong ones: each differs in one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, DensityField, Geometry, RaySamples, Renderer, RenderOutput, draw_views

SAMPLES = 64


class Twin(Renderer):
    """Samples at equal distances from 1 to 5 units along every ray, composited over one colour. NeRF, eq. 3."""

    class Config(ComponentConfig):
        """What is behind."""

        background: tuple[float, float, float] = (0.2, 0.4, 0.6)
        """Colour in [0, 1]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        return frozenset({"density-field"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"colour", "opacity", "depth", "ray-samples"})

    def rays(self, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        rays = cameras.rays()
        return rays.origin, rays.direction

    def jitter(self, like: Tensor, generator: torch.Generator | None) -> Tensor | float:
        if not self.training:
            return 0.5
        return torch.rand(like.shape[:-1], generator=generator, device=like.device)[..., None].to(like)

    def weights(self, density: Tensor, step: float) -> Tensor:
        thickness = density * step
        before = thickness.cumsum(-1) - thickness
        return torch.exp(-before) * -torch.expm1(-thickness)

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return colour + (1 - opacity)[..., None] * background

    def depth(self, weight: Tensor, distance: Tensor, direction: Tensor, cameras: CameraBatch) -> Tensor:
        return (weight * distance).sum(-1) / weight.sum(-1).clamp(min=1e-5)

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        assert isinstance(geometry, DensityField)
        origin, direction = self.rays(cameras)
        step = 4 / SAMPLES
        index = torch.arange(SAMPLES, device=origin.device, dtype=origin.dtype)
        distance = (1 + step * (index + self.jitter(origin, generator))).expand(*origin.shape[:-1], SAMPLES)
        found = geometry.sample(origin[..., None, :] + distance[..., None] * direction[..., None, :])
        weight = self.weights(found.density, step)
        opacity = weight.sum(-1)
        colour = (weight[..., None] * found.albedo).sum(-2)
        ray = torch.arange(opacity.numel(), device=origin.device).repeat_interleave(SAMPLES)
        flat = direction[..., None, :].expand(*distance.shape, 3).reshape(-1, 3)
        return RenderOutput(
            self.composite(colour, opacity, colour.new_tensor(self.config.background)),
            opacity,
            self.depth(weight, distance, direction, cameras),
            samples=RaySamples(weight.flatten(), ray, distance.reshape(-1), flat),
        )


class FlippedY(Twin):
    def rays(self, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        origin, direction = super().rays(cameras)
        return origin, direction.flip(1)


class Mirrored(Twin):
    def rays(self, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        origin, direction = super().rays(cameras)
        return origin, direction.flip(2)


class HalfAPixelOff(Twin):
    """Rays through the pixels' upper left corners instead of their centres."""

    def rays(self, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        pose = cameras.camera_to_world
        half = torch.tan(torch.deg2rad(cameras.fov_y) / 2)[:, None, None]
        height, width = cameras.height, cameras.width
        y = (1 - torch.arange(height).to(pose) * (2 / height))[None, :, None].expand(len(cameras), height, width)
        x = (torch.arange(width).to(pose) * (2 / width) - 1)[None, None, :].expand(len(cameras), height, width)
        local = torch.stack([half * x * (width / height), half * y, -torch.ones_like(x)], dim=-1)
        direction = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local)
        direction = direction / direction.norm(dim=-1, keepdim=True)
        return cameras.position[:, None, None, :].expand_as(direction), direction


class BackgroundTwice(Twin):
    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour, opacity, background) + 0.1 * background


class BackgroundShinesThrough(Twin):
    """The background where opacity is below a half, else none: not blended."""

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return colour + torch.where((opacity < 0.5)[..., None], 1.0, 0.0) * (1 - opacity)[..., None] * background


class ForgetsTheSpacing(Twin):
    def weights(self, density: Tensor, step: float) -> Tensor:
        return super().weights(density, 1.0)


class ForgetsOcclusion(Twin):
    """No transmittance: what is behind shines through."""

    def weights(self, density: Tensor, step: float) -> Tensor:
        return -torch.expm1(-density * step)


class DepthAlongTheAxis(Twin):
    def depth(self, weight: Tensor, distance: Tensor, direction: Tensor, cameras: CameraBatch) -> Tensor:
        forward = -cameras.camera_to_world[:, None, None, :3, 2]
        return super().depth(weight, distance, direction, cameras) * (direction * forward).sum(-1)


class DetachedDensity(Twin):
    """Every parameter still gets some gradient, through the colours."""

    def weights(self, density: Tensor, step: float) -> Tensor:
        return super().weights(density.detach(), step)


class ExposureOfTheBatch(Twin):
    """Brightness depends on how many views are rendered."""

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        seen = opacity.mean(dim=(1, 2), keepdim=True)
        return super().composite(colour, opacity, background) * (1 - 0.1 * (seen - seen.mean()).abs())[..., None]


class DrawsGlobally(Twin):
    def jitter(self, like: Tensor, generator: torch.Generator | None) -> Tensor | float:
        return torch.rand(like.shape[:-1])[..., None].to(like) if self.training else 0.5


class SharesOneDraw(Twin):
    """Each device takes the first numbers for its views, whichever they are."""

    def jitter(self, like: Tensor, generator: torch.Generator | None) -> Tensor | float:
        if not self.training:
            return 0.5
        return draw_views(torch.rand, like.shape[:-1], generator, like.device, axis=None)[..., None].to(like)


class DrawsInEvaluation(Twin):
    def jitter(self, like: Tensor, generator: torch.Generator | None) -> Tensor | float:
        if generator is None:
            return 0.5
        return torch.rand(like.shape[:-1], generator=generator, device=like.device)[..., None].to(like)


class RemembersTraining(Twin):
    """An exposure that training leaves behind, and no buffer holds."""

    exposure = 1.0

    def begin_step(self, geometry: Geometry, progress: Any, generator: torch.Generator) -> None:
        self.exposure = 0.9

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour, opacity, background) * self.exposure


class WrongSlope(Twin):
    """A weight whose gradient is halved: value right, derivative wrong."""

    def weights(self, density: Tensor, step: float) -> Tensor:
        return super().weights((density + density.detach()) / 2, step)


class PromisesNormals(Twin):
    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return super().provides(config) | {"normals"}


class HazeInTheVoid(Twin):
    """A haze of the matter's colour where there is no matter."""

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        output = super().forward(geometry, cameras, generator)
        assert isinstance(geometry, DensityField)
        haze = geometry.sample(cameras.position.new_zeros(1, 3)).albedo[0]
        clear = (output.opacity == 0)[..., None]
        return replace(output, colour=torch.where(clear, 0.99 * output.colour + 0.01 * haze, output.colour))


class LearnsNoColour(Twin):
    """The scene's colours are looked at, and never learned."""

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour.detach(), opacity, background)


class LearnsNothing(Twin):
    """A picture that trains nothing."""

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour, opacity, background).detach()


class WidthFirst(Twin):
    """Pictures (B, W, H)."""

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        output = super().forward(geometry, cameras, generator)
        turned = {name: getattr(output, name).transpose(1, 2) for name in ("colour", "opacity", "depth")}
        return replace(output, **turned)


class SeamsBetweenChunks(Twin):
    """Darkens the first ray of every chunk."""

    class Config(Twin.Config):
        """Adds how many rays go at once."""

        chunk: int = 4096
        """Rays at once."""

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        index = torch.arange(opacity.numel(), device=opacity.device).view_as(opacity) % opacity[0].numel()
        seam = (index > 0) & (index % self.config.chunk == 0)
        return super().composite(colour, opacity, background) * torch.where(seam, 0.5, 1.0)[..., None].to(colour)


class BackgroundOnTheCpu(Twin):
    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour, opacity, torch.tensor(self.config.background, dtype=colour.dtype))


MUTANTS: dict[type[Twin], set[str]] = {
    BackgroundOnTheCpu: {"test_other_device"},
    FlippedY: {"test_camera_convention", "test_weights"},
    Mirrored: {"test_camera_convention", "test_weights"},
    HalfAPixelOff: {"test_camera_convention", "test_weights", "test_opacity_of_a_ball"},
    BackgroundTwice: {"test_opaque_thing_has_its_colour", "test_half_transparent_thing_is_composited"},
    BackgroundShinesThrough: {"test_half_transparent_thing_is_composited"},
    ForgetsTheSpacing: {"test_opacity_of_a_ball"},
    ForgetsOcclusion: {"test_weights", "test_ranges", "test_opacity_of_a_ball", "test_opaque_thing_has_its_colour"},
    DepthAlongTheAxis: {"test_depth_is_the_distance_along_the_ray", "test_pictures_are_the_sums_of_their_samples"},
    DetachedDensity: {"test_gradcheck", "test_every_output_carries_a_graph"},
    ExposureOfTheBatch: {"test_batch_invariance"},
    DrawsGlobally: {"test_no_global_rng", "test_training_draws_from_its_generator", "test_views_are_shared_out"},
    SharesOneDraw: {"test_views_are_shared_out"},
    DrawsInEvaluation: {"test_evaluation_is_repeatable"},
    RemembersTraining: {"test_evaluation_is_repeatable", "test_state_dict_restores_behaviour"},
    WrongSlope: {"test_gradcheck"},
    PromisesNormals: {"test_features_are_given"},
    HazeInTheVoid: {"test_empty_scene_is_the_background", "test_half_transparent_thing_is_composited"},
    LearnsNoColour: {"test_gradients_reach_the_scene", "test_gradcheck"},
    LearnsNothing: {"test_gradients_reach_the_scene", "test_every_output_carries_a_graph"},
    WidthFirst: {
        "test_shapes",
        "test_weights",
        "test_pictures_are_the_sums_of_their_samples",
        "test_camera_convention",
        "test_opacity_of_a_ball",
    },
    SeamsBetweenChunks: {"test_chunking_changes_nothing"},
}
"""Wrong renderer -> the checks that catch it, and no other."""
