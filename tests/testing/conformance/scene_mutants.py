"""Right scenes that grow and that are surfaces, and wrong ones: each differs in one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import geometry_mutants
import torch
from torch import Tensor, nn

from dfw import ComponentConfig, Geometry, Material, Progress, Resized, Surface, SurfacePoints, Triangles


class Grows(Geometry):
    """Points with a weight each; at steps 10 and 20 the heaviest is doubled and the lightest goes."""

    class Config(ComponentConfig):
        """How many at first."""

        count: int = 4
        """Points at the start."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.points = nn.Parameter(torch.zeros(config.count, 3))
        self.weights = nn.Parameter(torch.zeros(config.count))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"points"})

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.points.copy_(torch.randn(self.points.shape, generator=generator, device=generator.device))
            self.weights.copy_(torch.rand(self.weights.shape, generator=generator, device=generator.device))

    def rows(self) -> Tensor:
        """The row that each new row continues."""
        order = self.weights.detach().argsort()
        return torch.cat([order[1:], order[-1:], order[-1:]])

    def resized(self, parameter: nn.Parameter, rows: Tensor) -> Resized:
        index = rows.clone()
        index[-2:] = -1
        return Resized(parameter, parameter.detach()[rows], index)

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        if progress.step not in (10, 20):
            return ()
        rows = self.rows()
        return [self.resized(parameter, rows) for parameter in (self.points, self.weights)]

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        self.resize_rows(shapes)


class ReplacesItsParameters(Grows):
    """Puts new parameters in the old ones' place, which the optimiser goes on with."""

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        for one in super().end_step(progress, generator):
            name = "points" if one.parameter is self.points else "weights"
            setattr(self, name, nn.Parameter(one.values))
        return ()


class IndexOfNoRow(Grows):
    def resized(self, parameter: nn.Parameter, rows: Tensor) -> Resized:
        return Resized(parameter, parameter.detach()[rows], rows + len(rows))


class IndexOfAnotherLength(Grows):
    def resized(self, parameter: nn.Parameter, rows: Tensor) -> Resized:
        return Resized(parameter, parameter.detach()[rows], rows[:-1])


class SomebodyElses(Grows):
    """A parameter that is not the geometry's own."""

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        stranger = nn.Parameter(torch.zeros(2, device=generator.device))
        found = super().end_step(progress, generator)
        return [*found, Resized(stranger, torch.zeros_like(stranger), torch.arange(2, device=stranger.device))] if found else ()


class NewRowsOfNothing(Grows):
    """1 / 0 in the rows that are new."""

    def resized(self, parameter: nn.Parameter, rows: Tensor) -> Resized:
        found = super().resized(parameter, rows)
        return Resized(parameter, found.values / (found.index >= 0).view(-1, *[1] * (parameter.dim() - 1)), found.index)


class CannotBeRestored(Grows):
    """Has no room for a checkpoint with more rows than it begins with."""

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        pass


class SharesItsSource(geometry_mutants.Twin):
    """Trains the source with itself."""

    def start_from(self, source: Geometry) -> None:
        super().start_from(source)
        assert isinstance(source, SharesItsSource)
        self.centre.data = source.centre.data


class MovesItsSource(geometry_mutants.Twin):
    """Centres the source before it looks at it."""

    def start_from(self, source: Geometry) -> None:
        if isinstance(source, geometry_mutants.Twin):
            source.centre.zero_()
        super().start_from(source)


class StartsFromNothing(geometry_mutants.Twin):
    def start_from(self, source: Geometry) -> None:
        """Takes nothing over, and says nothing."""


class TakesAnybodyForItself(geometry_mutants.Twin):
    """AttributeError for a source of another class."""

    def start_from(self, source: Any) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(getattr(source, name))


class Shell(Surface):
    """A tetrahedron with trainable corners and one colour each corner is near to."""

    class Config(ComponentConfig):
        """How large."""

        size: float = 0.5
        """Distance of a corner from the origin, world units."""

    faces: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        self.corners = nn.Parameter(config.size * corners / 3**0.5)
        self.colour = nn.Parameter(torch.zeros(3))
        self.register_buffer("faces", torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"surface"})

    def surface(self) -> Triangles:
        return Triangles(self.corners, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        return Material(torch.sigmoid(self.colour.to(at.position) + at.position))


class InsideOut(Shell):
    def surface(self) -> Triangles:
        return Triangles(self.corners, self.faces.flip(1))


class CountsFromTheEnd(Shell):
    """Negative indices, as Python has them."""

    def surface(self) -> Triangles:
        return Triangles(self.corners, self.faces - 4)


class ShortFaces(Shell):
    def surface(self) -> Triangles:
        return Triangles(self.corners, self.faces.int())


class RawSurfaceColour(Shell):
    def material(self, at: SurfacePoints) -> Material:
        return Material(self.colour.to(at.position) + 2 * at.position)


class ColourOfItsNeighbours(Shell):
    def material(self, at: SurfacePoints) -> Material:
        return Material(torch.sigmoid(self.colour.to(at.position) + at.position - at.position.mean(0)))


class OutOfRangeRoughness(Shell):
    def material(self, at: SurfacePoints) -> Material:
        return replace(super().material(at), roughness=at.position[..., 0])


class AnotherColourByPlace(Shell):
    def material(self, at: SurfacePoints) -> Material:
        found = super().material(at)
        return found if at.barycentric is None else replace(found, albedo=at.barycentric)


class DoesNotSaySurface(Shell):
    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset()


_TRAINS = {
    "test_no_global_rng",
    "test_state_dict_restores_behaviour",
    "test_other_device",
    "test_end_step_resizes_its_own_parameters",
    "test_starts_from_its_own_class",
}
"""Every check that goes through the steps of a run."""
MUTANTS: dict[type[Geometry], set[str]] = {
    ReplacesItsParameters: {"test_end_step_resizes_its_own_parameters", "test_state_dict_restores_behaviour"},
    IndexOfNoRow: _TRAINS,
    IndexOfAnotherLength: _TRAINS,
    SomebodyElses: _TRAINS,
    NewRowsOfNothing: {"test_end_step_resizes_its_own_parameters", "test_state_dict_restores_behaviour"},
    CannotBeRestored: {"test_state_dict_restores_behaviour", "test_starts_from_its_own_class"},
    SharesItsSource: {"test_starts_from_its_own_class"},
    MovesItsSource: {"test_starts_from_its_own_class"},
    StartsFromNothing: {"test_starts_from_its_own_class", "test_a_stranger_is_refused"},
    TakesAnybodyForItself: {"test_a_stranger_is_refused"},
    InsideOut: {"test_faces_look_outwards"},
    CountsFromTheEnd: {"test_triangles"},
    ShortFaces: {"test_triangles"},
    RawSurfaceColour: {"test_surface_material"},
    ColourOfItsNeighbours: {"test_surface_material"},
    OutOfRangeRoughness: {"test_surface_material"},
    AnotherColourByPlace: {"test_a_place_in_a_triangle_is_its_point"},
    DoesNotSaySurface: {
        "test_triangles",
        "test_faces_look_outwards",
        "test_surface_material",
        "test_a_place_in_a_triangle_is_its_point",
    },
}
"""Wrong geometry -> the checks that catch it, and no other."""
