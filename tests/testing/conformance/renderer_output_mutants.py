"""More wrong renderers: normals, samples, gradients and parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from renderer_mutants import SAMPLES, Twin
from torch import Tensor

from dfw import CameraBatch, DensityField, Geometry, RenderOutput


class Shown(Twin):
    """A right renderer with normals; `change` is handed the output."""

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return super().provides(config) | {"normals"}

    def normals(self, normal: Tensor, cameras: CameraBatch) -> Tensor:
        """Normals of the samples (B, H, W, S, 3)."""
        return normal

    def change(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        return output

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        assert isinstance(geometry, DensityField)
        output = super().forward(geometry, cameras, generator)
        assert output.samples is not None
        shape, samples = (*output.opacity.shape, SAMPLES), output.samples
        points = cameras.position[:, None, None, None] + (samples.distance[:, None] * samples.direction).view(*shape, 3)
        found = geometry.sample(points, normals=True).normal
        assert found is not None
        normal = self.normals(found, cameras)
        total = (samples.weight.view(*shape, 1) * normal).sum(-2)
        output = replace(output, normal=total, samples=replace(samples, normal=normal.reshape(-1, 3)))
        return self.change(output, cameras)


class NegatedNormals(Shown):
    def normals(self, normal: Tensor, cameras: CameraBatch) -> Tensor:
        return -normal


class NormalsOfTheCamera(Shown):
    def normals(self, normal: Tensor, cameras: CameraBatch) -> Tensor:
        return torch.einsum("bji,bhwnj->bhwni", cameras.camera_to_world[:, :3, :3], normal)


class SwappedNormals(Shown):
    def normals(self, normal: Tensor, cameras: CameraBatch) -> Tensor:
        return normal[..., [1, 0, 2]]


class NormalsAsColours(Shown):
    def change(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        assert output.normal is not None
        return replace(output, normal=output.normal / 2 + 0.5)


class NoNormals(Shown):
    def normals(self, normal: Tensor, cameras: CameraBatch) -> Tensor:
        return 0 * normal


class DistancesTooLong(Twin):
    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        output = super().forward(geometry, cameras, generator)
        assert output.samples is not None
        return replace(output, samples=replace(output.samples, distance=2 * output.samples.distance))


class ColourUpsideDown(Twin):
    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour, opacity, background).flip(1)


class UpsideDownInTraining(Twin):
    """Pictures are right in evaluation."""

    def rays(self, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        origin, direction = super().rays(cameras)
        return origin, direction.flip(1) if self.training else direction


class OpacityDetached(Twin):
    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        output = super().forward(geometry, cameras, generator)
        return replace(output, opacity=output.opacity.detach())


class DepthDetached(Twin):
    def depth(self, weight: Tensor, distance: Tensor, direction: Tensor, cameras: CameraBatch) -> Tensor:
        return super().depth(weight, distance, direction, cameras).detach()


class WeightsDetached(Twin):
    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        output = super().forward(geometry, cameras, generator)
        assert output.samples is not None
        return replace(output, samples=replace(output.samples, weight=output.samples.weight.detach()))


class EditsItsCameras(Twin):
    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        cameras.distance.zero_()
        return super().forward(geometry, cameras, generator)


class Tinted(Twin):
    """A filter that is learned: the right one of those with a parameter of their own."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.behind = torch.nn.Parameter(torch.tensor([0.2, 0.4, 0.6]))

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super().composite(colour, opacity, self.behind.to(colour))


class LosesAParameter(Tinted):
    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {}


class GroupsAsAList(Tinted):
    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return list(self.parameters())  # type: ignore[return-value]


class WrongSlopeOfItsOwn(Tinted):
    """The gradient of its own parameter is doubled."""

    def composite(self, colour: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
        return super(Tinted, self).composite(colour, opacity, (2 * self.behind - self.behind.detach()).to(colour))


MUTANTS: dict[type[Twin], set[str]] = {
    NegatedNormals: {"test_normals"},
    NormalsOfTheCamera: {"test_normals"},
    SwappedNormals: {"test_normals"},
    NormalsAsColours: {"test_normals", "test_pictures_are_the_sums_of_their_samples"},
    NoNormals: {"test_normals"},
    DistancesTooLong: {"test_pictures_are_the_sums_of_their_samples"},
    ColourUpsideDown: {"test_camera_convention"},
    UpsideDownInTraining: {"test_camera_convention"},
    OpacityDetached: {"test_every_output_carries_a_graph"},
    DepthDetached: {"test_every_output_carries_a_graph"},
    WeightsDetached: {"test_every_output_carries_a_graph"},
    EditsItsCameras: {"test_leaves_its_inputs_alone"},
    LosesAParameter: {"test_parameter_groups_hold_each_parameter_once"},
    GroupsAsAList: {"test_parameter_groups_hold_each_parameter_once"},
    WrongSlopeOfItsOwn: {"test_gradients_match_differences", "test_gradcheck"},
}
"""As its neighbour's."""
