"""Right cameras, and wrong ones: each differs in one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfw import CameraBatch, Cameras, ComponentConfig, Orbit, Progress, Views, cameras_at

SIDE = 6


class Twin(Cameras):
    """Pairs of opposite views of one scene, with a colour and a mask of their own."""

    class Config(ComponentConfig):
        """How many."""

        pairs: int = 3
        """Pairs of views a step."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("far", torch.tensor(3.0))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"target-colour", "target-mask", "target-index"})

    @classmethod
    def together(cls, config: Any) -> int:
        return 2

    @classmethod
    def largest(cls, config: Any) -> int | None:
        return SIDE

    def distances(self, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(self.config.pairs, generator=generator, device=generator.device)
        return (self.far - 0.5 + drawn).repeat_interleave(2)

    def place(self, generator: torch.Generator) -> CameraBatch:
        pairs, device = self.config.pairs, generator.device
        azimuth = 180 * torch.rand(pairs, generator=generator, device=device).repeat_interleave(2)
        azimuth = azimuth - 180 * (torch.arange(2 * pairs, device=device) % 2)
        elevation = 60 * torch.rand(pairs, generator=generator, device=device).repeat_interleave(2) - 10
        distance = self.distances(generator)
        return cameras_at(azimuth, elevation, distance, torch.full_like(distance, 40.0), SIDE, SIDE + 2)

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        return cameras.in_groups(2).at_time(torch.linspace(0, 1, len(cameras)))

    def targets(self, cameras: CameraBatch) -> dict[str, Tensor]:
        count = len(cameras)
        ramp = torch.linspace(0, 1, count * SIDE * (SIDE + 2) * 3, device=cameras.fov_y.device)
        colour = ramp.view(count, SIDE, SIDE + 2, 3)
        return {"colour": colour, "mask": colour[..., 0], "index": torch.arange(count, device=colour.device)}

    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        cameras = self.finish(self.place(generator))
        return Views(cameras, self.targets(cameras))

    def orbit(self) -> Orbit:
        return Orbit(distance=3.0, lowest=-10.0)


class KeepsItsColourQuiet(Twin):
    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return super().provides(config) - {"target-colour"}


class PromisesDepths(Twin):
    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return super().provides(config) | {"target-depth"}


class PlacesAsAColumn(Twin):
    """(B, 1) in place of (B,)."""

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        return replace(super().finish(cameras), fov_y=cameras.fov_y[:, None])


class HalfAPixel(Twin):
    def finish(self, cameras: CameraBatch) -> CameraBatch:
        return replace(super().finish(cameras), height=5.5)  # type: ignore[arg-type]


class ScaledAxes(Twin):
    """The scene's scale in the rotation, as some files of poses have it."""

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        pose = cameras.camera_to_world.clone()
        pose[:, :3, :3] *= 2
        return replace(super().finish(cameras), camera_to_world=pose)


class LeftHanded(Twin):
    def finish(self, cameras: CameraBatch) -> CameraBatch:
        pose = cameras.camera_to_world.clone()
        pose[:, :3, 0] *= -1
        return replace(super().finish(cameras), camera_to_world=pose)


class OpenCvAxes(Twin):
    """x right, y down, looking along +z."""

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        pose = cameras.camera_to_world.clone()
        pose[:, :3, 1:3] *= -1
        return replace(super().finish(cameras), camera_to_world=pose)


class AnglesBeforeTheShake(Twin):
    """The position moves after its angles were noted down."""

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        pose = cameras.camera_to_world.clone()
        pose[:, :3, 3] += 0.1
        return replace(super().finish(cameras), camera_to_world=pose)


class Radians(Twin):
    def finish(self, cameras: CameraBatch) -> CameraBatch:
        return replace(super().finish(cameras), azimuth=torch.deg2rad(cameras.azimuth))


class WideAsABarn(Twin):
    """A field of view of 200 degrees."""

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        return replace(super().finish(cameras), fov_y=5 * cameras.fov_y)


class ForgetsItsGroups(Twin):
    def finish(self, cameras: CameraBatch) -> CameraBatch:
        return replace(super().finish(cameras), together=1)


class OneTargetForAll(Twin):
    def targets(self, cameras: CameraBatch) -> dict[str, Tensor]:
        return {name: value[:1] for name, value in super().targets(cameras).items()}


class TargetsTurned(Twin):
    """(B, W, H, 3)."""

    def targets(self, cameras: CameraBatch) -> dict[str, Tensor]:
        found = super().targets(cameras)
        return found | {"colour": found["colour"].transpose(1, 2)}


class BytesForColours(Twin):
    def targets(self, cameras: CameraBatch) -> dict[str, Tensor]:
        found = super().targets(cameras)
        return found | {"colour": 255 * found["colour"]}


class MovesItsLastViews(Twin):
    """Writes a step's distances into the tensor that the last step's views hold."""

    def finish(self, cameras: CameraBatch) -> CameraBatch:
        held = vars(self).setdefault("held", torch.empty_like(cameras.fov_y))
        held = self.held = held.to(cameras.fov_y.device)
        held.copy_(cameras.distance)
        return replace(super().finish(cameras), distance=held)


class LowerThanItSays(Twin):
    def orbit(self) -> Orbit:
        return Orbit(distance=3.0, lowest=20.0)


class ShownFromTheCentre(Twin):
    def orbit(self) -> Orbit:
        return Orbit(distance=0.0)


class LargerThanItSays(Twin):
    @classmethod
    def largest(cls, config: Any) -> int | None:
        return SIDE - 1


class DrawsOnTheCpu(Twin):
    def distances(self, generator: torch.Generator) -> Tensor:
        return 2.5 + torch.rand(self.config.pairs, generator=generator).repeat_interleave(2)


class DrawsGlobally(Twin):
    def distances(self, generator: torch.Generator) -> Tensor:
        return 2.5 + torch.rand(self.config.pairs, device=generator.device).repeat_interleave(2)


MUTANTS: dict[type[Twin], set[str]] = {
    KeepsItsColourQuiet: {"test_targets_are_offered"},
    PromisesDepths: {"test_targets_are_offered"},
    PlacesAsAColumn: {"test_shapes"},
    LargerThanItSays: {"test_shapes"},
    HalfAPixel: {"test_shapes", "test_targets"},
    ScaledAxes: {"test_poses_are_rigid"},
    LeftHanded: {"test_poses_are_rigid"},
    OpenCvAxes: {"test_looks_at_the_scene"},
    AnglesBeforeTheShake: {"test_angles_are_those_of_the_pose"},
    Radians: {"test_angles_are_those_of_the_pose"},
    WideAsABarn: {"test_ranges"},
    ForgetsItsGroups: {"test_together"},
    OneTargetForAll: {"test_targets"},
    TargetsTurned: {"test_targets"},
    BytesForColours: {"test_targets"},
    MovesItsLastViews: {"test_views_stay_as_they_were"},
    LowerThanItSays: {"test_orbit"},
    ShownFromTheCentre: {"test_orbit"},
    DrawsOnTheCpu: {"test_other_device"},
    DrawsGlobally: {
        "test_no_global_rng",
        "test_same_seed_same_result",
        "test_deterministic",
        "test_state_dict_restores_behaviour",
        "test_other_device",
    },
}
"""Wrong cameras -> the checks that catch them, and no other."""
