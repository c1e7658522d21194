"""The frozen records that travel between components.

Shapes, the legend used all over the project:

| letter | what it counts |
|---|---|
| B | views in a batch |
| H, W | pixels of a view |
| R | rays, B H W |
| N | samples along all rays, packed: only those kept |
| C, h, w | channels and side lengths of a guidance's space |
| T | timesteps of a noise schedule |
| V | texts that views may be described by |
| L, D | tokens and width of a text embedding |

The world is right-handed, z is up, and objects face +x. Lengths are world units, and angles of cameras are degrees. Colours are
display-referred (sRGB) in [0, 1], as the images of diffusion models are. Images are channels-last (B, H, W, 3) on the scene's
side and channels-first (B, C, h, w) on the guidance's side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw.interfaces.draws import drawn_in_pieces
from dfw.interfaces.pictures import depth_picture, normal_picture


class Record:
    """A frozen record of tensors. Copies are made over all its fields, so that a field added later is never lost."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every tensor changed, those inside nested records and mappings as well."""
        return replace(self, **{one.name: _mapped(getattr(self, one.name), change) for one in fields(self)})  # type: ignore[type-var,arg-type]

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return self.mapped(lambda tensor: tensor.to(device))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Record):
        return value.mapped(change)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_mapped(item, change) for item in value)
    return value


class Batch(Record):
    """A record whose tensors all have the batch in front."""

    def select(self, index: slice | Tensor) -> Self:
        """The rows at `index` along the batch."""
        return self.mapped(lambda tensor: tensor[index])

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Parts joined along the batch, in order. Raises ValueError where one has what another lacks, or plain values differ."""
        joined: Self = _cat(parts)
        return joined


def _cat(parts: Sequence[Any]) -> Any:
    joined = {one.name: _joined(one.name, [getattr(part, one.name) for part in parts]) for one in fields(parts[0])}
    return type(parts[0])(**joined)


def _joined(name: str, values: list[Any]) -> Any:
    first = values[0]
    if all(isinstance(value, Tensor) for value in values):
        return torch.cat(values)
    if all(isinstance(value, Batch) for value in values):
        return type(first).cat(values)
    if all(isinstance(value, Mapping) for value in values) and len({frozenset(value) for value in values}) == 1:
        return {key: _joined(f"{name}.{key}", [value[key] for value in values]) for key in first}
    if isinstance(first, Tensor | Batch | Mapping) or any(value != first for value in values[1:]):
        kinds = ", ".join(dict.fromkeys("none" if v is None else str(v) if isinstance(v, int) else "some" for v in values))
        raise ValueError(f"cannot join records whose {name} differs ({kinds}); give all of them one, or none")
    return first


@dataclass(frozen=True)
class Rays(Record):
    """Rays in world space."""

    origin: Tensor
    """(..., 3), world units."""
    direction: Tensor
    """(..., 3), unit length."""


@dataclass(frozen=True)
class CameraBatch(Batch):
    """B pinhole cameras that share one image size."""

    camera_to_world: Tensor
    """(B, 4, 4), OpenGL axes: x right, y up, looking along -z."""
    fov_y: Tensor
    """(B,), vertical field of view, degrees."""
    azimuth: Tensor
    """(B,), degrees, seen from the scene's centre, counter-clockwise from above. At 0 a camera on +x sees the front."""
    elevation: Tensor
    """(B,), degrees above the horizon, seen from the scene's centre."""
    distance: Tensor
    """(B,), world units to the centre."""
    height: int
    """Pixels of a view's side."""
    width: int
    """Pixels of a view's other side."""
    time: Tensor | None = None
    """(B,) in [0, 1], the moment of a scene that moves; None where nothing is said of it."""
    together: int = 1
    """How many consecutive views a model sees at once: views of one moment, or the frames of a clip."""

    def __len__(self) -> int:
        return int(self.camera_to_world.shape[0])

    @property
    def position(self) -> Tensor:
        """(B, 3) camera centres, world units."""
        return self.camera_to_world[:, :3, 3]

    def in_groups(self, together: int) -> CameraBatch:
        """The same cameras, of which a model sees `together` consecutive ones at once. Raises ValueError."""
        if together < 1 or len(self) % together:
            raise ValueError(f"{len(self)} views cannot be split into groups of {together}")
        return replace(self, together=together)

    def at_time(self, time: Tensor | float) -> CameraBatch:
        """The same cameras at the moments `time` in [0, 1]: (B,), or one number for all."""
        return replace(self, time=torch.as_tensor(time).to(self.azimuth).expand(len(self)))

    def rays(self) -> Rays:
        """One ray through each pixel centre: origin and direction (B, H, W, 3)."""
        pose = self.camera_to_world
        device, dtype = pose.device, pose.dtype
        half = torch.tan(torch.deg2rad(self.fov_y) / 2)[:, None, None]
        y = 1 - (torch.arange(self.height, device=device, dtype=dtype) + 0.5) * (2 / self.height)
        x = ((torch.arange(self.width, device=device, dtype=dtype) + 0.5) * (2 / self.width) - 1) * (self.width / self.height)
        local = torch.stack(
            [
                (half * x[None, None, :]).expand(-1, self.height, -1),
                (half * y[None, :, None]).expand(-1, -1, self.width),
                -torch.ones(len(self), self.height, self.width, device=device, dtype=dtype),
            ],
            dim=-1,
        )
        direction = F.normalize(torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local), dim=-1)
        return Rays(self.position[:, None, None, :].expand_as(direction), direction)


@dataclass(frozen=True)
class Views(Record):
    """What `Cameras` give for a step: cameras, and what is known of those views."""

    cameras: CameraBatch
    """The B cameras."""
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    """What posed pictures show: `colour` (B, H, W, 3) in [0, 1], `mask` (B, H, W) in [0, 1], `depth` (B, H, W) along the rays,
    world units, `normal` (B, H, W, 3) unit, in world space, `index` (B,) int64, the pictures' numbers."""


@dataclass(frozen=True)
class Orbit:
    """From where a scene is looked at when it is shown: previews, turntable, exported mesh."""

    distance: float = 3.0
    """World units to the centre."""
    fov: float = 40.0
    """Vertical field of view, degrees."""
    elevation: float = 15.0
    """Degrees above the horizon."""
    lowest: float = -90.0
    """Lowest elevation, degrees, from which training looks at the scene; the mesh is solid where no view from there looks."""


@dataclass(frozen=True)
class FieldSample(Record):
    """A field at points (..., 3)."""

    density: Tensor
    """(...), 1/unit, >= 0."""
    albedo: Tensor
    """(..., 3) in [0, 1]."""
    normal: Tensor | None = None
    """(..., 3), unit length; None unless asked for."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Whatever else the field knows at the points, each (..., C): roughness, a signed distance, features."""


@dataclass(frozen=True)
class RaySamples(Batch):
    """Packed samples of a volume rendering, sorted by ray, then by distance."""

    weight: Tensor
    """(N,), contribution w_i of each sample to its pixel."""
    ray: Tensor
    """(N,) int64, index into the R rays."""
    distance: Tensor
    """(N,), along the ray, world units."""
    direction: Tensor
    """(N, 3), unit direction of the sample's ray."""
    normal: Tensor | None = None
    """(N, 3), unit normals; None where none were computed."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """The samples' other values, each (N, C)."""


PICTURES = ("colour", "normal", "camera-normal", "normal-mask", "depth", "opacity")
"""What a loss may look at of any render (`of`), besides the names in `RenderOutput.extras`."""

LATENTS = "latents"
"""The picture, and the feature, that is in the guidance's latent space: (B, H, W, C), unbounded. No encoder looks at it."""


@dataclass(frozen=True)
class RenderOutput(Record):
    """What a renderer gives back for a CameraBatch."""

    colour: Tensor
    """(B, H, W, 3), composited over the background, in [0, 1]; for a geometry of latents (B, H, W, C), unbounded."""
    opacity: Tensor
    """(B, H, W) in [0, 1]."""
    depth: Tensor
    """(B, H, W), expected distance along the ray, world units; 0 where nothing is."""
    normal: Tensor | None = None
    """(B, H, W, 3), weighted sum of the samples' unit normals, in world space; None where none were computed."""
    samples: RaySamples | None = None
    """For losses that look at samples; None where there are none."""
    latent: bool = False
    """Whether `colour` is already in the guidance's latent space."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Other pictures of the scene, each (B, H, W, 1) or (B, H, W, 3): albedo, roughness, a signed distance. `latents` has C."""

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Renders of some views each, as one of all of them, in order: for a renderer that asks another one several times.

        A run on several devices then renders all views on each of them, as with a renderer that draws without `draw_views`.
        Raises ValueError where one has what another lacks, or their pictures differ in size.
        """
        drawn_in_pieces()
        before, moved = 0, []
        for part in parts:
            if part.opacity.shape[1:] != parts[0].opacity.shape[1:]:
                raise ValueError("cannot join renders whose pictures differ in size")
            samples = part.samples and replace(part.samples, ray=part.samples.ray + before)
            moved.append(replace(part, samples=samples))
            before += part.opacity.numel()
        joined: Self = _cat(moved)
        return joined

    def picture(self, of: str, cameras: CameraBatch) -> Tensor:
        """What a loss looks at, (B, H, W, 3) in [0, 1], differentiable.

        `colour`: as it is (latents too). `latents`: (B, H, W, C), of a field of latents, or the colour where that is latents.
        `normal`: (n + 1)/2 of world-space normals, over 1/2. `camera-normal`: as `normal_picture`. `normal-mask`: a latent
        (B, H, W, 4), world-space normals over 0 and the opacity (Fantasia3D, Chen et al. 2023, section 3.2). `depth`: disparity,
        as `depth_picture`. `opacity`: three times. Others: a name in `extras`, (B, H, W, 1) three times. Raises ValueError for
        what this render does not have.
        """
        if of == "colour" or (of == LATENTS and self.latent):
            return self.colour
        if of == "opacity":
            return self.opacity[..., None].expand(*self.opacity.shape, 3)
        if of == "depth":
            return depth_picture(self.depth, self.opacity, cameras)
        if of in ("normal", "camera-normal", "normal-mask"):
            if self.normal is None:
                raise ValueError("the render has no normals")
            if of == "normal-mask":
                return torch.cat([self.normal, self.opacity[..., None]], dim=-1)
            return (self.normal + 1) / 2 if of == "normal" else normal_picture(self.normal, self.opacity, cameras)
        if of not in self.extras:
            raise ValueError(f"the render has no picture named {of!r}; it has {', '.join([*PICTURES, *self.extras])}")
        extra = self.extras[of]
        return extra if extra.shape[-1] > 1 else extra.expand(*extra.shape[:-1], 3)


@dataclass(frozen=True)
class Conditioning(Batch):
    """What a guidance is conditioned on, for B images."""

    embedding: Tensor
    """(B, L, D), of the text, or of whatever else the guidance reads."""
    pooled: Tensor | None = None
    """(B, P), one vector for the whole text, where the model reads one."""
    cameras: CameraBatch | None = None
    """The views, where it knows them."""
    control: Tensor | None = None
    """(B, 3, H, W) in [0, 1], a picture of the scene's shape, for a guidance that reads one (`Guidance.control_image`)."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Other conditions of a guidance's own, each with the batch in front."""

    def __len__(self) -> int:
        return int(self.embedding.shape[0])


@dataclass(frozen=True)
class NoiseSchedule(Record):
    """The forward process z_t = alpha_t z + sigma_t eps, noise growing with t.

    Variance-preserving diffusion (DDPM, Ho et al. 2020, eq. 4) has alpha_t^2 + sigma_t^2 = 1, rectified flow (Liu et al. 2023)
    alpha_t + sigma_t = 1. Nothing else may be assumed of them. The core moves `Guidance.schedule` to the run's device.
    """

    alpha: Tensor
    """(T,), float32, > 0."""
    sigma: Tensor
    """(T,), float32, > 0."""

    @staticmethod
    def from_alphas_cumprod(alphas_cumprod: Tensor) -> NoiseSchedule:
        """alpha_t = sqrt(abar_t), sigma_t = sqrt(1 - abar_t), from abar_t (T,), diffusers' `scheduler.alphas_cumprod`."""
        abar = alphas_cumprod.double()
        return NoiseSchedule(abar.sqrt().float(), (1 - abar).sqrt().float())

    @staticmethod
    def from_flow(noise_level: Tensor) -> NoiseSchedule:
        """alpha_t = 1 - s_t, sigma_t = s_t, from the noise levels s_t (T,) in (0, 1), rising, of a rectified flow."""
        level = noise_level.double()
        return NoiseSchedule((1 - level).float(), level.float())

    def __len__(self) -> int:
        return int(self.alpha.shape[0])

    def at(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t for `timestep` (B,), shaped (B, 1, ..., 1), in the device and dtype of `like`."""
        shape = (-1,) + (1,) * (like.dim() - 1)
        index = timestep.to(self.alpha.device)
        return self.alpha[index].to(like).view(shape), self.sigma[index].to(like).view(shape)


@dataclass(frozen=True)
class Wording(Batch):
    """Which of V texts describe B views."""

    rows: Tensor
    """(B, K) int64, indices of texts; K = 1 for one text a view."""
    weights: Tensor
    """(B, K), their shares, sum 1: embeddings are mixed with them."""
    away_rows: Tensor | None = None
    """(B, N) int64, texts that each view is pushed away from (Perp-Neg)."""
    away_weights: Tensor | None = None
    """(B, N), >= 0, how strongly."""


@dataclass(frozen=True)
class PromptBatch(Record):
    """The prompt as the guidance reads it, Conditioning of B each."""

    positive: Conditioning
    """For each camera's view."""
    negative: Conditioning
    """What classifier-free guidance moves away from: the negative prompt, or no condition at all."""
    negatives: tuple[Conditioning, ...] = ()
    """Further ones that each view is pushed away from (Perp-Neg); none unless the prompter gives them."""
    negative_weights: Tensor | None = None
    """(B, N), >= 0, how strongly."""
    texts: Mapping[str, Conditioning] = field(default_factory=dict)
    """Texts that losses asked for, by the text as they wrote it."""

    def with_control(self, control: Tensor | None) -> PromptBatch:
        """The same, every conditioning in it with the picture `control` (B, 3, H, W)."""
        return replace(self, **{one.name: _with_control(getattr(self, one.name), control) for one in fields(self)})


def _with_control(value: Any, control: Tensor | None) -> Any:
    if isinstance(value, Conditioning):
        return replace(value, control=control)
    if isinstance(value, tuple):
        return tuple(_with_control(item, control) for item in value)
    if isinstance(value, Mapping):
        return {key: _with_control(item, control) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Triangles(Record):
    """A triangle mesh with gradients."""

    vertices: Tensor
    """(V, 3), world units."""
    faces: Tensor
    """(F, 3) int64, indices of vertices, counter-clockwise seen from outside."""


@dataclass(frozen=True)
class TextureCoordinates(Record):
    """Where the triangles of a surface lie in a square picture. Each has a place of its own there."""

    uv: Tensor
    """(W, 2) in [0, 1], origin at the picture's lower left."""
    faces: Tensor
    """(F, 3) int64, rows of `uv` for the corners of each triangle of `Surface.surface()`."""
    size: int | None = None
    """Pixels of the picture's side, for a surface whose material is such a picture; None: any will do."""


@dataclass(frozen=True)
class SurfacePoints(Record):
    """Points on a surface, of any leading dimensions."""

    position: Tensor
    """(..., 3), world units."""
    face: Tensor | None = None
    """(...) int64, the triangle of `Surface.surface()` that each lies on; None for points of another mesh, as in export."""
    barycentric: Tensor | None = None
    """(..., 3), each point's coordinates in its triangle, sum 1; with gradients where positions have them. None with `face`."""


@dataclass(frozen=True)
class Material(Record):
    """What a surface is made of at points (...), by the metallic-roughness model of glTF 2.0, section 3.9."""

    albedo: Tensor
    """(..., 3) in [0, 1], display-referred base colour."""
    roughness: Tensor | None = None
    """(...) in [0, 1], perceptual; None for a surface that is not shiny."""
    metallic: Tensor | None = None
    """(...) in [0, 1]; None for 0."""
    bump: Tensor | None = None
    """(..., 3), added to the unit normal in world space before it is normalised for shading; None for smooth surfaces."""


@dataclass(frozen=True)
class Resized:
    """A parameter that gets another number of rows; its optimiser's state is carried over by `index`.

    Keep no tensor of the step's graph after `end_step`: autograd remembers the old shape as long as the graph lives.
    """

    parameter: nn.Parameter
    """The parameter, whose values are replaced in place."""
    values: Tensor
    """(M, ...), its new values."""
    index: Tensor
    """(M,) int64: the row of the old parameter that each new row continues, or -1 for a row that starts without a state."""
