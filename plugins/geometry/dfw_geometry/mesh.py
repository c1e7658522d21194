"""A triangle mesh of the user's own, painted with a texture or with a field over space.

Legend: V vertices, F faces, W textured vertices (one for each chart that a vertex lies in), S texels of a side, P points.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn

from dfw import (
    ComponentConfig,
    Geometry,
    Material,
    Shape,
    Surface,
    SurfacePoints,
    TextureCoordinates,
    TexturedMesh,
    Triangles,
    bake_surface,
    bilinear,
    nearest_on,
    place_in,
    shape_of,
)

from .material_field import MaterialField

log = logging.getLogger("dfw.geometry")

_SMOOTHEST = 0.08  # a smoother surface mirrors lights as points, which no pixel samples well; that of `MaterialField`
_DULL = 0.8  # roughness where the source says nothing: that of files which dfw writes
_CHARTS = 1024  # pixels for which charts are packed where no texture says how many
_CELLS = 80  # along an axis of a density field, about 25,000 triangles
_FIT_POINTS = 100_000  # on the surface, where a field takes over the source's colours


class ImageTexture(ComponentConfig):
    """A texture: the texels are the parameters."""

    type: Literal["image"] = "image"
    size: Annotated[int, Field(ge=16, le=8192)] = 512
    """Texels of a side. Training views should show about one texel in a pixel: texels that no pixel meets stay as they began."""
    levels: Annotated[int, Field(ge=1, le=10)] = 1
    """Pictures whose sum is the texture: of `size`, half of it, a quarter and so on. Each moves twice as fast as the next finer
    one, and the texels as fast as the learning rate says. So large areas take a colour together, and with a small learning rate
    little of the distillation's noise stays in single texels. 1: texels alone."""
    pbr: bool = False
    """Whether there are roughness, metallic and bump next to the albedo."""

    @model_validator(mode="after")
    def _fits(self) -> ImageTexture:
        coarsest = self.size // 2 ** (self.levels - 1)
        if coarsest < 4:
            raise ValueError(
                f"levels: the coarsest of {self.levels} has {coarsest} texels of a side; write fewer, or a larger size"
            )
        return self


class FieldTexture(MaterialField.Config):
    """A material field: neighbours in space share parameters, so that it has no seams and no texel stays unpainted."""

    type: Literal["field"] = "field"
    radius: PositiveFloat = 1.0
    """Half-width of the cube that the field fills, world units. Outside it is that of the nearest point of the cube."""


class Mesh(Surface):
    """The mesh that the run starts from, a file (`start.mesh`) or another run's surface, with a material to train.

    It keeps its triangles and its texture coordinates. Where coordinates are missing, overlap or go beyond the picture, xatlas
    makes new ones. Several objects and materials become one, and their textures are resampled to `texture.size`. Normals are
    smooth: those of the file are not read.
    """

    class Config(ComponentConfig):
        """What is trained, and how it begins."""

        texture: Annotated[ImageTexture | FieldTexture, Field(discriminator="type")] = ImageTexture()
        """`image` (texels) or `field` (an encoding over space), a mapping with `type` and its fields."""
        colours: Literal["keep", "grey"] = "keep"
        """The first colours: those of what it starts from, or grey."""
        vertices: Literal["fixed", "free"] = "fixed"
        """Whether the shape stays, or vertices are parameters of the group `geometry.vertices`."""

    config: Config
    vertices: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        empty = torch.zeros(0, 3)
        if config.vertices == "free":
            self.vertices = nn.Parameter(empty)
        else:
            self.register_buffer("vertices", empty)
        self.register_buffer("faces", torch.zeros(0, 3, dtype=torch.int64))
        self.register_buffer("uv", torch.zeros(0, 2))
        self.register_buffer("uv_faces", torch.zeros(0, 3, dtype=torch.int64))
        self.field: MaterialField | None = None
        if isinstance(config.texture, FieldTexture):
            self.field = MaterialField(config.texture, config.texture.radius)
        else:
            self.texels = nn.Parameter(self._plain(config.texture))
            channels, sizes = self.texels.shape[-1], (config.texture.size // 2**k for k in range(1, config.texture.levels))
            self.coarser = nn.ParameterList(nn.Parameter(torch.zeros(side, side, channels)) for side in sizes)
        self._drawn = torch.Generator()

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        """Provides a surface."""
        return frozenset({"surface"})

    @classmethod
    def requires(cls, config: Config) -> frozenset[str]:
        """Requires a scene to start from, since it has no shape of its own."""
        return frozenset({"start"})

    def initialise(self, generator: torch.Generator) -> None:
        """Draws a field's parameters; texels start grey."""
        self._drawn = generator  # for `start_from`, which comes next
        if self.field is not None:
            self.field.initialise(generator)

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        """Makes room for a checkpoint's mesh."""
        self.resize_rows(shapes)

    def start_from(self, source: Geometry) -> None:
        """Takes over triangles, texture coordinates and colours of a surface, or of the surface of a density field.

        From its own class, with the same texture, it takes over all that is trained, whatever `colours` says. Raises ConfigError
        for a source without a surface.
        """
        config = self.config
        if isinstance(source, Mesh) and source.config.texture == config.texture:
            super().start_from(source)
            return
        taken = source if isinstance(source, Surface) else _Shaped(shape_of(source, _CELLS))
        if isinstance(config.texture, ImageTexture):
            made = bake_surface(taken, config.texture.size)
        else:
            made = bake_surface(_Bare(taken), _CHARTS)
        self._take_shape(made)
        if isinstance(config.texture, FieldTexture):
            self._check_radius(config.texture.radius)
        if config.colours == "keep":
            self._take_colours(made, taken)

    def _take_shape(self, made: TexturedMesh) -> None:
        state = {"vertices": made.mesh.vertices, "faces": made.mesh.faces, "uv": made.uv, "uv_faces": made.faces}
        for name, values in state.items():
            tensor = getattr(self, name)
            tensor.data = torch.as_tensor(values).to(tensor)

    def _take_colours(self, made: TexturedMesh, source: Surface) -> None:
        if self.field is not None:
            self.field.fit(lambda points: source.material(SurfacePoints(points)).albedo, self._spread(), self._drawn)
            return
        texels = self.texels.data
        shape = texels.shape[:2]
        texels[..., :3] = torch.as_tensor(made.texture).to(texels).expand(*shape, 3) / 255
        if texels.shape[-1] > 3 and made.metallic_roughness is not None:
            texels[..., 3:5] = torch.as_tensor(made.metallic_roughness[..., 1:]).to(texels) / 255

    def _spread(self) -> Tensor:
        """Points (P, 3) spread evenly over the surface, by area."""
        corners = self.vertices.detach()[self.faces]
        area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=-1).norm(dim=-1)
        share = torch.cumsum(area.double(), 0)
        step = (torch.arange(_FIT_POINTS, device=area.device, dtype=torch.float64) + 0.5) / _FIT_POINTS
        face = torch.searchsorted(share, step * share[-1]).clamp(max=len(area) - 1)
        drawn = torch.rand(2, _FIT_POINTS, generator=self._drawn, device=self._drawn.device).to(corners)
        root = drawn[0].sqrt()  # Turk 1990: uniform in a triangle
        place = torch.stack([1 - root, root * (1 - drawn[1]), root * drawn[1]], dim=-1)
        return torch.einsum("pk,pkx->px", place, corners[face])

    def _check_radius(self, radius: float) -> None:
        reach = float(self.vertices.detach().abs().max())
        if reach > radius * (1 + 1e-4):
            log.warning(
                "geometry.texture.radius: the mesh reaches to %.3g, and the field only to %g; colours beyond repeat those at its "
                "border, so write %.3g or more",
                reach,
                radius,
                reach,
            )

    @staticmethod
    def _plain(texture: ImageTexture) -> Tensor:
        """Grey texels (S, S, C), and where there are more channels dull ones without metal and bump."""
        channels = [0.5, 0.5, 0.5, *([_DULL, 0.0, 0.0, 0.0, 0.0] if texture.pbr else [])]
        return torch.tensor(channels).expand(texture.size, texture.size, -1).clone()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry.texture`, or a field's `geometry.encoding` and `geometry.network`; `geometry.vertices` if they are free."""
        made = (
            {"geometry.texture": [self.texels, *self.coarser]} if self.field is None else self.field.parameter_groups("geometry")
        )
        return made | ({"geometry.vertices": [self.vertices]} if isinstance(self.vertices, nn.Parameter) else {})

    def surface(self) -> Triangles:
        """The triangles as they are now."""
        return Triangles(self.vertices, self.faces)

    def texture_coordinates(self) -> TextureCoordinates:
        """The mesh's own, or those that xatlas made at the start."""
        size = self.config.texture.size if isinstance(self.config.texture, ImageTexture) else None
        return TextureCoordinates(self.uv, self.uv_faces, size)

    def material(self, at: SurfacePoints) -> Material:
        """The field at the positions, or the texture, bilinear, in the triangle that is named or nearest.

        albedo, roughness (0.08 to 1) and metallic are clamped with a straight-through gradient, so that a texel at the border can
        come back. The bump is in world space.
        """
        if self.field is not None:
            found: Material = self.field(at.position)
            return found
        face, place = self._place(at)
        uv = torch.einsum("...k,...kc->...c", place, self.uv[self.uv_faces[face]])
        value = self._looked_up(uv).to(at.position.dtype)
        albedo = _clamped(value[..., :3], 0.0)
        if value.shape[-1] == 3:
            return Material(albedo)
        return Material(albedo, _clamped(value[..., 3], _SMOOTHEST), _clamped(value[..., 4], 0.0), value[..., 5:])

    def _looked_up(self, uv: Tensor) -> Tensor:
        """The texture's values (..., C) at `uv` (..., 2): the sum of all levels."""
        value = bilinear(self.texels, uv)
        for level, picture in enumerate(self.coarser, start=1):
            value = value + 2**level * bilinear(picture, uv)
        return value

    def _place(self, at: SurfacePoints) -> tuple[Tensor, Tensor]:
        """The triangle (...) and the place in it (..., 3) of each point."""
        if at.face is not None and at.barycentric is not None:
            return at.face, at.barycentric.to(self.uv.dtype)
        face, place = nearest_on(self.surface(), at.position)
        dropped = place_in(self.surface(), face, at.position)  # in the points' own precision, and with gradients
        inside = (dropped.detach() >= 0).all(-1, keepdim=True)
        return face, torch.where(inside, dropped, place + (dropped - dropped.detach())).to(self.uv.dtype)


def _clamped(values: Tensor, low: float) -> Tensor:
    return values + (values.detach().clamp(low, 1) - values.detach())


class _Bare(Surface):
    """A surface without its colours: a field needs only its charts, and a million texels would be asked for in vain."""

    def __init__(self, source: Surface) -> None:
        super().__init__()
        self.source = source

    def surface(self) -> Triangles:
        return self.source.surface()

    def texture_coordinates(self) -> TextureCoordinates | None:
        return self.source.texture_coordinates()

    def material(self, at: SurfacePoints) -> Material:
        return Material(torch.full_like(at.position, 0.5))


class _Shaped(Surface):
    """The surface of a density field."""

    corners: Tensor
    faces: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._colour = shape.colour
        self.register_buffer("corners", torch.as_tensor(shape.mesh.vertices, dtype=torch.float32))
        self.register_buffer("faces", torch.as_tensor(shape.mesh.faces, dtype=torch.int64))

    def surface(self) -> Triangles:
        return Triangles(self.corners, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        return Material(self._colour(at.position.reshape(-1, 3)).view(at.position.shape))
