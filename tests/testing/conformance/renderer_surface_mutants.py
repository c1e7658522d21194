"""Wrong renderers of surfaces: each differs from the right one in one thing."""

from __future__ import annotations

from dataclasses import replace

import torch

from dfw import CameraBatch, Geometry, RenderOutput
from dfw_renderers.mesh import Mesh


class Twin(Mesh):
    """The right one."""


class Changed(Twin):
    """Changes what the right one gives."""

    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        return output

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        return self.changed(super().forward(geometry, cameras, generator), cameras)


class LooksInwards(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        assert output.normal is not None
        return replace(output, normal=-output.normal)


class NormalsOfTheCamera(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        assert output.normal is not None
        turn = cameras.camera_to_world[:, None, None, :3, :3].to(output.normal)
        return replace(output, normal=(turn * output.normal[..., :, None]).sum(-2))


class NormalsByArea(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        assert output.normal is not None
        return replace(output, normal=0.36 * output.normal)


class DepthAlongTheAxis(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        ahead = -(cameras.rays().direction * cameras.camera_to_world[:, None, None, :3, 2]).sum(-1)
        return replace(output, depth=output.depth * ahead)


class Mirrored(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        return replace(output, colour=output.colour.flip(2), opacity=output.opacity.flip(2), depth=output.depth.flip(2))


class NoNormalsInTraining(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        return replace(output, normal=None) if self.training else output


class ShadesWhatItShows(Changed):
    def changed(self, output: RenderOutput, cameras: CameraBatch) -> RenderOutput:
        return replace(output, colour=output.colour * (1 - 0.2 * output.opacity[..., None]))


MUTANTS: dict[type[Twin], set[str]] = {
    LooksInwards: {"test_normals_of_a_surface"},
    NormalsOfTheCamera: {"test_normals_of_a_surface"},
    NormalsByArea: {"test_normals_of_a_surface"},
    DepthAlongTheAxis: {"test_depth_is_the_distance_along_the_ray"},
    Mirrored: {"test_camera_convention"},
    NoNormalsInTraining: {"test_features_are_given"},
    ShadesWhatItShows: {"test_opaque_thing_has_its_colour"},
}
"""Wrong component -> the checks that catch it, and no other does."""
