"""What is optimised: the scene. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from dfw.config.schedules import Progress
from dfw.errors import ConfigError
from dfw.interfaces.component import Component, name_of
from dfw.interfaces.data import FieldSample, Material, Resized, SurfacePoints, TextureCoordinates, Triangles


class Geometry(Component, nn.Module, ABC):
    """What is optimised: the scene's parameters. Says in `provides` how it can be asked (`density-field`, `surface`, `image`)."""

    kind: ClassVar[str] = "geometry"
    smoothing: float = 0.0
    """World units: what `shape_of` smooths a density's surface by. The core sets it on a run's scene that another starts from."""

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial parameters from `generator`. Called once in a new run, before the first step.

        A run that is resumed, exported or rendered restores a checkpoint instead: read files here, not in the constructor.
        """

    def start_from(self, source: Geometry) -> None:
        """Takes over the trained scene `source`, which is in evaluation mode, on the same device, without gradients.

        Called once, after `initialise`, in a new run that names a `start`. Never called when a run is resumed, exported or
        rendered, so that the source may be deleted afterwards. Ask the source by its features (`DensityField`, `Surface`), not
        by its class. By default the state is copied where both are of one class and of the same options. Raises ConfigError for
        a source that cannot be taken over.
        """
        if type(source) is not type(self):
            raise ConfigError(
                f"{name_of(self)} cannot start from {name_of(source)}: by default a geometry starts only from its own class"
            )
        state = source.state_dict()
        self.allocate({name: tensor.shape for name, tensor in state.items()})  # the source may have grown
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ConfigError(f"{name_of(self)} cannot start from {name_of(source)}: their options differ ({reason})") from None

    @classmethod
    def starts_from(cls, source: type[Geometry]) -> bool:
        """Returns whether `start_from` may take over scenes of the class `source`. Asked before a model loads, also in a dry run.

        By default those of its own class, and those with a shape where `start_from` is overridden. Override it for other sources.
        """
        if cls.start_from is Geometry.start_from:
            return source is cls
        return issubclass(source, cls) or source.may_have_shape()

    def begin_step(self, progress: Progress, generator: torch.Generator) -> None:
        """Called before each step, for what changes with time (coarse-to-fine encodings, annealed blobs)."""

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        """Called after the optimiser's step, with the gradients still there.

        A geometry that changes how many rows its parameters have (densification, pruning, subdivision) returns one `Resized` for
        each such parameter. The core puts the new values in place and carries the optimiser's state over, row by row.
        """
        return ()

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """Called before a checkpoint is restored: makes parameters and buffers of these shapes, by their state_dict names.

        By default nothing. A geometry whose parameters change their number overrides it; `resize_rows` does it for most.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Name -> parameters; each group can have its own settings in `optimizer.groups`."""
        return {"geometry": list(self.parameters())}

    def export_assets(self, folder: Path) -> dict[str, Path]:
        """Writes what the scene is besides a mesh (a cloud of Gaussians, say) as files in `folder`, which exists and is empty.

        Returns asset name -> file; by default there are none. The report shows an asset named `glb` in its viewer. Called in
        evaluation mode, without gradients. The files are then moved to the export folder, under their own names or numbered
        ones, so that none replaces another.
        """
        return {}

    def density_field(self) -> DensityField | None:
        """Returns the scene as a density over space, as it is now, for one that is neither a `DensityField` nor a `Surface`.

        Exports make a mesh of it, and other geometries start from it. It needs no gradients. By default None: no mesh.
        """
        return None

    @property
    def has_shape(self) -> bool:
        """Whether there is a mesh to make of it: it is a density field or a surface, or says `density_field`."""
        return self.may_have_shape()

    @classmethod
    def may_have_shape(cls) -> bool:
        """Returns whether there is a mesh to make of scenes of this class: see `has_shape`."""
        return cls.density_field is not Geometry.density_field or issubclass(cls, DensityField | Surface)

    def resize_rows(self, shapes: Mapping[str, torch.Size]) -> None:
        """Gives parameters and buffers the number of rows that `shapes` says; all other sides stay. For `allocate`."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        for name, shape in shapes.items():
            tensor = tensors.get(name)
            if tensor is not None and tensor.dim() == len(shape) and tensor.shape[1:] == shape[1:]:
                tensor.data = tensor.data.new_zeros(shape)


class DensityField(Geometry):
    """A geometry that is a density and an albedo over space: feature `density-field`. Zero outside the cube |x|_inf <= radius."""

    @property
    @abstractmethod
    def radius(self) -> float:
        """Half-width of the scene's cube, world units."""

    @abstractmethod
    def density(self, points: Tensor) -> Tensor:
        """Density at `points` (..., 3), world units -> (...), 1/unit, >= 0."""

    @abstractmethod
    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """Density, albedo and (when asked) unit normals -grad(density)/|grad(density)| at `points` (..., 3).

        Gradients reach the parameters through all outputs, also through the normals.
        """

    def segment(self, points: Tensor, directions: Tensor, length: Tensor, normals: bool = False) -> FieldSample:
        """Returns the field as rays meet it: `density` is the mean over a segment of each ray, 1/unit, >= 0.

        points (..., 3): middles of the segments, world units. directions (..., 3): unit, along the rays, away from the camera.
        length (...): of the segments, world units. A segment's opacity is 1 - exp(-density * length). All else is as `sample`
        says at `points`, and no ray meets matter where `density` is 0. By default the density is that in the middle. A field
        whose density depends on the ray's direction, or that knows its integral, overrides this.
        """
        return self.sample(points, normals)


class SignedDistance(DensityField):
    """A density field that is made of a signed distance: feature `signed-distance`. The lower the distance, the denser.

    Where `sample` and `segment` are asked for normals, `extras` has `gradient`: the length of the distance's gradient (..., 1).
    """

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """The distance at `points` (..., 3) to the surface -> (...), world units, negative inside."""


class LatentField(DensityField):
    """A density field that is made of a guidance's latents: feature `latents`.

    `sample` and `segment` have them in `extras` as `latents` (..., C), unbounded. The albedo is the colour that they stand for.
    """

    @abstractmethod
    def latents_of(self, colour: Tensor) -> Tensor:
        """Returns the latents (..., C) of even pictures of `colour` (..., 3) in [0, 1]: what a background is to the guidance."""


class Surface(Geometry):
    """A geometry that is a triangle mesh with a material at each point of it: feature `surface`."""

    @abstractmethod
    def surface(self) -> Triangles:
        """The triangles as they are now; vertices carry gradients to the parameters."""

    @abstractmethod
    def material(self, at: SurfacePoints) -> Material:
        """What the surface is made of at points (...) on it. Gradients reach the parameters, and positions where they have any.

        A renderer gives the triangle and the place in it as well. Where these are None, the points lie on another mesh of the
        same shape (an exported one has fewer triangles): answer for the nearest point of the surface (`nearest_on`).
        """

    def texture_coordinates(self) -> TextureCoordinates | None:
        """Where the triangles lie in a picture, for a mesh that has its own texture coordinates.

        Export then keeps triangles and coordinates as they are, and reduces them only if `export.faces` says so. By default None:
        export reduces the triangles to a usual number, and makes coordinates.
        """
        return None


class ImagePlanes(Geometry):
    """A geometry that is a set of pictures and not a scene in space: feature `image`."""

    @property
    @abstractmethod
    def latent(self) -> bool:
        """Whether the values are in the guidance's latent space."""

    @abstractmethod
    def image(self, batch: int | None = None) -> Tensor:
        """The first `batch` planes, starting over when there are fewer: (B, H, W, C). All of them if not given."""
