"""The kit for cameras: poses that are poses, angles that are theirs, groups and targets that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.config.schedules import Progress
from dfw.interfaces.cameras import Cameras
from dfw.interfaces.data import Views
from dfw.testing.base import ComponentTests
from dfw.testing.compare import bounds, require_finite, require_same
from dfw.testing.devices import DeviceChecks
from dfw.testing.outcomes import Skip, require
from dfw.testing.state import StateChecks

_STEPS = (Progress(0, 100), Progress(50, 100), Progress(99, 100), Progress(0, 1))
"""Where in a run views are asked for: its first step, the middle, the last, and a run of one step."""
_NUMBERS = ("fov_y", "azimuth", "elevation", "distance")
_LOWEST = 5.0
"""Degrees by which a view may lie below `Orbit.lowest`: cameras that shake go a little below their range."""


class CamerasTests(ComponentTests[Cameras], StateChecks[Cameras], DeviceChecks[Cameras]):
    """Checks of `Cameras`. Write `make`."""

    interface: ClassVar[type[Any]] = Cameras

    def fresh(self, seed: int = 0) -> Cameras:
        """As in a run: cameras stay in training mode."""
        return super().fresh(seed).train()

    def exercise(self, made: Cameras) -> None:
        """Asks for the views of a few steps."""
        for _ in self._views(made):
            pass
        made.orbit()

    def observe(self, made: Cameras, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Poses, angles and targets of the views of a few steps, and from where the scene is shown."""
        asked = [views for _, views in self._views(made)]
        found = {f"{name} of step {step}": value for step, views in enumerate(asked) for name, value in _named(views).items()}
        look = made.orbit()
        return found | {"orbit": torch.tensor([look.distance, look.fov, look.elevation, look.lowest], device=self.device)}

    def draws(self, made: Cameras) -> bool:
        """Whether views depend on the generator."""
        generator = self.generator()
        before = generator.get_state()
        made.sample(_STEPS[0], generator)
        return not torch.equal(before, generator.get_state())

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_shapes(self) -> None:
        """Each step gives B >= 1 views: poses (B, 4, 4), four numbers (B,), whole height and width, all of one dtype."""
        promise, made = "sample gives Views of a CameraBatch", self.fresh()
        largest: object = type(made).largest(made.config)
        for _, views in self._views(made):
            require(isinstance(views, Views), promise, f"it gave a {type(views).__name__}", "Return Views(CameraBatch(...))")
            cameras = views.cameras
            count, pose = len(cameras), cameras.camera_to_world
            shapes = {"camera_to_world": (pose, (count, 4, 4)), **{n: (getattr(cameras, n), (count,)) for n in _NUMBERS}}
            if cameras.time is not None:
                shapes["time"] = (cameras.time, (count,))
            require(count >= 1, promise, "a step has no views", "Give at least one")
            for name, (value, shape) in shapes.items():
                seen = f"{name} has shape {tuple(value.shape)} and {value.dtype}"
                remedy = f"Give {shape}, in the dtype of the poses"
                right = tuple(value.shape) == shape and value.dtype == pose.dtype and value.is_floating_point()
                require(right, promise, seen, remedy)
            for name, side in (("height", cameras.height), ("width", cameras.width)):
                whole = isinstance(side, int) and side >= 1
                require(whole, f"{name} is a number of pixels", f"it is {side!r}", "Give an int of 1 or more")
            square = min(cameras.height, cameras.width)
            fits = largest is None or (isinstance(largest, int) and square <= largest)
            seen = f"it is {largest!r}, and a view holds a square of {square}"
            require(fits, "largest(config) is None, or no view holds a larger square", seen, "Take the larger end of a ramp")

    def test_poses_are_rigid(self) -> None:
        """A pose is a rotation and a place: orthonormal axes, right-handed, and (0, 0, 0, 1) in its last row."""
        promise, remedy = "camera_to_world is a rotation and a place", "Normalise the axes; dfw.look_at makes such poses"
        for _, views in self._views(self.fresh()):
            pose = views.cameras.camera_to_world.double()
            axes = pose[:, :3, :3]
            one = torch.eye(3, device=pose.device, dtype=pose.dtype).expand_as(axes)
            off = float((axes.transpose(1, 2) @ axes - one).abs().max())
            require(off <= 1e-4, promise, f"its axes are off from orthonormal by {off:.3g}", remedy)
            handed = float(torch.linalg.det(axes).min())
            require(handed > 0, promise, f"its axes are left-handed (determinant {handed:.3g})", "Columns are right, up and back")
            last = bool((pose[:, 3] == pose.new_tensor([0.0, 0, 0, 1])).all())
            require(last, promise, f"the last row is {pose[0, 3].tolist()}", "Write 0, 0, 0, 1 into it")

    def test_angles_are_those_of_the_pose(self) -> None:
        """Azimuth, elevation and distance are the position's, seen from the centre: prompts read them."""
        for _, views in self._views(self.fresh()):
            cameras = views.cameras
            x, y, z = cameras.position.double().unbind(-1)
            flat, distance = torch.hypot(x, y), cameras.position.double().norm(dim=-1)
            elevation, azimuth = torch.rad2deg(torch.atan2(z, flat)), torch.rad2deg(torch.atan2(y, x))
            turn = torch.remainder(cameras.azimuth.double() - azimuth + 180, 360) - 180
            turn = torch.where(flat > 1e-4 * distance, turn, 0.0)  # straight above the centre every azimuth is right
            apart = {
                "azimuth": (turn.abs(), "degrees"),
                "elevation": ((cameras.elevation.double() - elevation).abs(), "degrees"),
                "distance": ((cameras.distance.double() / distance - 1).abs(), "of the position's"),
            }
            for name, (off, unit) in apart.items():
                worst = float(off.max())
                seen = f"{name} is off by up to {worst:.3g} {unit}"
                remedy = "Take dfw.angles_of(position), after the position was moved"
                require(worst <= 1e-2, "the angles reported are those of the pose", seen, remedy)

    def test_looks_at_the_scene(self) -> None:
        """At least half of the views have the scene's centre before them: cameras look along -z, with y up."""
        before = [
            torch.einsum("bi,bi->b", -views.cameras.position, -views.cameras.camera_to_world[:, :3, 2])
            for _, views in self._views(self.fresh())
        ]
        share = float((torch.cat(before) > 0).double().mean())
        seen = f"the scene's centre lies behind the camera in {100 * (1 - share):.0f} % of the views"
        remedy = "Turn OpenCV's axes into OpenGL's: negate the second and the third column"
        require(share >= 0.5, "cameras look at the scene along their -z axis", seen, remedy)

    def test_ranges(self) -> None:
        """Fields of view lie in (0, 180), elevations in [-90, 90], distances above 0, times in [0, 1]; all are finite."""
        for _, views in self._views(self.fresh()):
            cameras = views.cameras
            values = {name: getattr(cameras, name) for name in _NUMBERS} | {"camera_to_world": cameras.camera_to_world}
            require_finite(values, "every number of a camera is finite", "Look for 0/0 and log 0")
            limits = {"fov_y": (0.0, 180.0, False), "elevation": (-90.0, 90.0, True), "distance": (0.0, math.inf, False)}
            if cameras.time is not None:
                values, limits = values | {"time": cameras.time}, limits | {"time": (0.0, 1.0, True)}
            for name, (low, high, closed) in limits.items():
                least, most = bounds(values[name])
                inside = low <= least and most <= high if closed else low < least and most < high
                promise = f"{name} lies in {'[' if closed else '('}{low:g}, {high:g}{']' if closed else ')'}"
                require(inside, promise, f"it runs from {least:.4g} to {most:.4g}", "Angles are degrees, lengths world units")

    def test_together(self) -> None:
        """`together` says how many views a model sees at once: the batch says the same, and is a multiple of it."""
        made = self.fresh()
        together: object = type(made).together(made.config)
        promise, remedy = "together(config) is a number of 1 or more", "Return an int"
        require(isinstance(together, int) and together >= 1, promise, f"it is {together!r}", remedy)
        assert isinstance(together, int)
        for _, views in self._views(made):
            cameras = views.cameras
            seen = f"together() says {together}, and the batch has {len(cameras)} views in groups of {cameras.together}"
            remedy = "Return cameras.in_groups(together)"
            fits = cameras.together == together and len(cameras) % together == 0
            require(fits, "views come in groups of together()", seen, remedy)

    def test_targets(self) -> None:
        """Targets have a row for each view; those that dfw names have their shape and range, on the generator's device."""
        targets = [(views, name, value) for _, views in self._views(self.fresh()) for name, value in views.targets.items()]
        if not targets:
            raise Skip("the views have no targets")
        for views, name, value in targets:
            cameras = views.cameras
            picture = (len(cameras), cameras.height, cameras.width)
            shapes = {"colour": (*picture, 3), "mask": picture, "depth": picture, "normal": (*picture, 3), "index": picture[:1]}
            shape = tuple(value.shape)
            promise = f"the target {name} has a row for each of {len(cameras)} views"
            right = shape == shapes.get(name, shape) and shape[:1] == picture[:1]
            remedy = f"Give {shapes[name]}" if name in shapes else "Put the views in front"
            require(right, promise, f"it has shape {shape}", remedy)
            place = value.device == cameras.camera_to_world.device
            require(place, f"the target {name} is on the cameras' device", f"it is on {value.device}", "Register it as a buffer")
            self._require_range(name, value)

    def test_targets_are_offered(self) -> None:
        """What `provides` says of targets is in every step's views: `target-colour` for `colour`, and so on."""
        made = self.fresh()
        offered = type(made).provides(made.config)
        for _, views in self._views(made):
            for name in ("colour", "mask", "depth", "normal", "index"):
                given, said = name in views.targets, f"target-{name}" in offered
                seen = f"the views {'have' if given else 'lack'} {name}, provides() {'has' if said else 'lacks'} target-{name}"
                require(given == said, "provides() says which targets views have", seen, "Add the word, or leave it out")

    def _require_range(self, name: str, value: Tensor) -> None:
        low, high = bounds(value)
        if name in ("colour", "mask"):
            seen = f"it runs from {low:.4g} to {high:.4g}"
            require(low >= 0 and high <= 1, f"the target {name} lies in [0, 1]", seen, "Divide bytes by 255")
        elif name == "depth":
            require(low >= 0, "the target depth is a distance along the ray", f"the lowest is {low:.4g}", "Measure from the eye")
        elif name == "normal":
            off = float((value.double().norm(dim=-1) - 1).abs().max())
            require(off <= 1e-2, "target normals have length 1", f"one is off by {off:.3g}", "Normalise them")
        elif name == "index":
            whole = value.dtype == torch.int64 and low >= 0
            require(
                whole, "the target index is the pictures' numbers, int64", f"it is {value.dtype} from {low:.4g}", "Count from 0"
            )

    def test_views_stay_as_they_were(self) -> None:
        """The tensors of a step's views are not changed by the steps that follow."""
        made = self.fresh()
        given: dict[str, Tensor] = {}
        before: dict[str, Tensor] = {}
        for step, (_, views) in enumerate(self._views(made)):
            named = {f"{name} of step {step}": value for name, value in _named(views).items()}
            given, before = given | named, before | {name: value.clone() for name, value in named.items()}
        remedy = "Return new tensors, or buffers that nothing is written into"
        require_same(before, given, 0, "views stay as they were given", remedy)

    def test_orbit(self) -> None:
        """The scene is shown from a distance above 0, by a real field of view, and no view lies below `lowest`."""
        made = self.fresh()
        look, promise = made.orbit(), "orbit() says from where the scene is shown"
        facts = {
            "distance": (look.distance, 0 < look.distance < math.inf, "above 0"),
            "fov": (look.fov, 0 < look.fov < 180, "in (0, 180) degrees"),
            "elevation": (look.elevation, -90 <= look.elevation <= 90, "in [-90, 90] degrees"),
            "lowest": (look.lowest, -90 <= look.lowest <= 90, "in [-90, 90] degrees"),
        }
        for name, (value, right, where) in facts.items():
            require(right, promise, f"{name} is {value:.4g}", f"Give one {where}")
        last = [float(views.cameras.elevation.min()) for progress, views in self._views(made) if progress.step == 99]
        seen = f"at the end of a run a view is at {min(last):.3g} degrees, and lowest is {look.lowest:.3g}"
        remedy = "Give the lowest elevation of the range: the exported mesh is solid where no view from there looks"
        require(look.lowest <= min(last) + _LOWEST, "no view lies below orbit().lowest", seen, remedy)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _views(self, made: Cameras) -> Iterator[tuple[Progress, Views]]:
        """The views of some steps, twice each, with another generator."""
        for seed in (0, 1):
            for index, progress in enumerate(_STEPS):
                yield progress, made.sample(progress, self.generator(10 * seed + index))


def _named(views: Views) -> dict[str, Tensor]:
    """All tensors of views."""
    cameras = views.cameras
    return {"pose": cameras.camera_to_world, **{name: getattr(cameras, name) for name in _NUMBERS}, **views.targets}
