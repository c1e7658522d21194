"""A scene that moves: a density field, and how it is bent and tinted at each moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from dfw import ComponentConfig, ConfigError, DensityField, FieldSample, Geometry, Part, Progress, Resized

STEP = 0.01  # world units; the finest cell of the usual fields is larger


class Warped(Geometry):
    """density(x, t) = field(x + u(x, t)); albedo likewise, moved by a tint. u and tint are one small network, 0 at t = 0."""

    class Config(ComponentConfig):
        """The first moment, and what changes it."""

        field: Part[Geometry] = Part[Geometry](type="dreamfw/nerf")
        """The scene at its first moment: any density field."""
        width: PositiveInt = 32
        """Neurons in each of the network's two hidden layers."""
        waves: PositiveInt = 3
        """Octaves of sines of place and time that the network reads."""
        reach: PositiveFloat = 0.3
        """Largest way that a point moves along an axis, world units."""

    config: Warped.Config

    def __init__(self, config: Warped.Config) -> None:
        super().__init__()
        self.config = config
        self.field = config.field.build()
        if not isinstance(self.field, DensityField):
            raise ConfigError("field: write a density field, such as nerf")
        features = 4 * (1 + 2 * config.waves)
        self.network = nn.Sequential(
            nn.Linear(features, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, 6),
        )

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """It can be asked for a moment."""
        return frozenset({"moving"})

    def initialise(self, generator: torch.Generator) -> None:
        """Nearly no motion."""
        self.field.initialise(generator)
        with torch.no_grad():
            for layer in self.network:
                if isinstance(layer, nn.Linear):
                    layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
                    layer.bias.zero_()
            self.network[-1].weight.mul_(0.1)

    def start_from(self, source: Geometry) -> None:
        """From another moving scene, or with what the first moment can start from."""
        if isinstance(source, Warped):
            super().start_from(source)
        else:
            self.field.start_from(source)

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """As the first moment."""
        self.field.begin_step(progress, generator)

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """As the first moment."""
        return self.field.end_step(progress, generator)

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """As the first moment."""
        self.field.allocate({name.removeprefix("field."): shape for name, shape in shapes.items() if name.startswith("field.")})

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the first moment, and `motion`."""
        groups = {f"field.{name}": parameters for name, parameters in self.field.parameter_groups().items()}
        return groups | {"motion": list(self.network.parameters())}

    def density_field(self) -> DensityField:
        """The first moment."""
        return self.at(torch.zeros(()))

    def at(self, time: Tensor) -> Moment:
        """The scene at `time` (), in [0, 1]."""
        return Moment(self, time)

    def motion(self, points: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """u (..., 3) and the tint (..., 3) of logits at `points` (..., 3)."""
        place = torch.cat([points / self.field.radius, (2 * time - 1).to(points).expand_as(points[..., :1])], -1)
        angles = [2.0**octave * torch.pi / 2 * place for octave in range(self.config.waves)]
        features = torch.cat([place, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], -1)
        out = self.network(features) * time.to(points)
        return self.config.reach * torch.tanh(out[..., :3]), out[..., 3:]


class Moment(DensityField):
    """A moving scene at one time, as a density field."""

    def __init__(self, scene: Warped, time: Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "scene", scene)  # not a module inside: its parameters are the scene's
        self.time = time

    @property
    def radius(self) -> float:
        """As the scene's."""
        return self.scene.field.radius

    def density(self, points: Tensor) -> Tensor:
        """That of the first moment, where the point came from; 0 outside of the cube."""
        way, _ = self.scene.motion(points, self.time)
        return self._inside(points) * self.scene.field.density(points + way)

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """As `density`, with tinted colours."""
        return self._seen(points, normals, self.scene.field.sample)

    def segment(self, points: Tensor, directions: Tensor, length: Tensor, normals: bool = False) -> FieldSample:
        """As `sample`, by the first moment's own segments."""
        return self._seen(points, normals, lambda places: self.scene.field.segment(places, directions, length))

    def _seen(self, points: Tensor, normals: bool, ask: Callable[[Tensor], FieldSample]) -> FieldSample:
        way, tint = self.scene.motion(points, self.time)
        found = ask(points + way)
        albedo = torch.sigmoid(torch.logit(found.albedo, eps=1e-4) + tint)
        normal = self._normals(points) if normals else None
        return FieldSample(self._inside(points) * found.density, albedo, normal, found.extras)

    def _inside(self, points: Tensor) -> Tensor:
        return points.detach().abs().amax(-1) <= self.radius

    def _normals(self, points: Tensor) -> Tensor:
        """By central differences: the field need not be differentiable twice."""
        steps = STEP * torch.eye(3, device=points.device, dtype=points.dtype)
        slope = torch.stack([self.density(points + step) - self.density(points - step) for step in steps], -1)
        return F.normalize(-slope, dim=-1)
