"""The frozen dataclasses that travel between components.

Shapes (legend used all over the project)
    B  views in a batch          H, W  pixels of a view        R = B H W  rays
    N  samples along all rays, packed (only those kept)         C, h, w   channels and side lengths of a guidance's space
    T  timesteps of a noise schedule                            L, D      tokens and width of a text embedding

World: right-handed, z up, objects face +x. Lengths are world units, angles of cameras are degrees, colours are
display-referred (sRGB) in [0, 1], as the diffusion models' images are. Images are channels-last (B, H, W, 3) on the scene's
side and channels-first (B, C, h, w) on the guidance's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """Rays in world space: `origin` (..., 3) and unit `direction` (..., 3)."""

    origin: Tensor
    direction: Tensor


@dataclass(frozen=True)
class CameraBatch:
    """B pinhole cameras that share one image size.

    camera_to_world: (B, 4, 4), OpenGL axes: x right, y up, looking along -z.
    fov_y: (B,) vertical field of view, degrees. azimuth, elevation: (B,) degrees, as seen from the scene's centre; azimuth 0
    looks at the front (the camera stands on +x), counter-clockwise from above. distance: (B,) world units to the centre.
    """

    camera_to_world: Tensor
    fov_y: Tensor
    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    height: int
    width: int

    def __len__(self) -> int:
        return int(self.camera_to_world.shape[0])

    @property
    def position(self) -> Tensor:
        """(B, 3) camera centres, world units."""
        return self.camera_to_world[:, :3, 3]

    def select(self, index: slice | Tensor) -> CameraBatch:
        """The cameras at `index` along the batch."""
        return CameraBatch(
            self.camera_to_world[index],
            self.fov_y[index],
            self.azimuth[index],
            self.elevation[index],
            self.distance[index],
            self.height,
            self.width,
        )

    @staticmethod
    def cat(parts: Sequence[CameraBatch]) -> CameraBatch:
        """The cameras of all parts, in order; image sizes must agree."""
        return CameraBatch(
            torch.cat([c.camera_to_world for c in parts]),
            torch.cat([c.fov_y for c in parts]),
            torch.cat([c.azimuth for c in parts]),
            torch.cat([c.elevation for c in parts]),
            torch.cat([c.distance for c in parts]),
            parts[0].height,
            parts[0].width,
        )

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
class FieldSample:
    """A field at points (..., 3): `density` (...), 1/unit, >= 0; `albedo` (..., 3) in [0, 1]; unit `normal` (..., 3)."""

    density: Tensor
    albedo: Tensor
    normal: Tensor | None = None


@dataclass(frozen=True)
class RaySamples:
    """Packed samples of a volume rendering, sorted by ray, then by distance.

    weight (N,): contribution w_i of each sample to its pixel. ray (N,): index into the R rays, int64. distance (N,): along the
    ray, world units. direction (N, 3): unit direction of the sample's ray. normal (N, 3): unit normals, or None.
    """

    weight: Tensor
    ray: Tensor
    distance: Tensor
    direction: Tensor
    normal: Tensor | None = None


@dataclass(frozen=True)
class RenderOutput:
    """What a renderer gives back for a CameraBatch.

    colour (B, H, W, 3): composited over the background, in [0, 1] (for a geometry of latents: (B, H, W, C), unbounded).
    opacity (B, H, W): in [0, 1]. depth (B, H, W): expected distance along the ray, world units, 0 where nothing is.
    normal (B, H, W, 3): weighted sum of the samples' unit normals, or None. samples: for per-sample losses, or None.
    latent: whether `colour` is already in the guidance's latent space.
    """

    colour: Tensor
    opacity: Tensor
    depth: Tensor
    normal: Tensor | None = None
    samples: RaySamples | None = None
    latent: bool = False


@dataclass(frozen=True)
class Conditioning:
    """What a guidance is conditioned on, for B images.

    embedding: (B, L, D), of the text. pooled: (B, P), one vector for the whole text, where the model reads one. cameras: the
    views, where it knows them. control: (B, 3, H, W) in [0, 1], a picture of the scene's shape, for a guidance that reads one
    (`Guidance.control_image`).
    """

    embedding: Tensor
    pooled: Tensor | None = None
    cameras: CameraBatch | None = None
    control: Tensor | None = None

    def __len__(self) -> int:
        return int(self.embedding.shape[0])

    def select(self, index: slice | Tensor) -> Conditioning:
        """The rows at `index` along the batch."""
        return Conditioning(
            self.embedding[index],
            None if self.pooled is None else self.pooled[index],
            None if self.cameras is None else self.cameras.select(index),
            None if self.control is None else self.control[index],
        )

    def to(self, device: torch.device | str) -> Conditioning:
        """The same, its text's embeddings on another device."""
        return replace(self, embedding=self.embedding.to(device), pooled=None if self.pooled is None else self.pooled.to(device))

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Parts joined along the batch, in order. Cameras and pooled embeddings are kept when every part has them.

        Raises ValueError when some parts have a control picture and some have none.
        """
        pooled = [p.pooled for p in parts if p.pooled is not None]
        cameras = [p.cameras for p in parts if p.cameras is not None]
        controls = [p.control for p in parts if p.control is not None]
        if controls and len(controls) != len(parts):
            raise ValueError("a conditioning with a control picture is joined to one without; take both from the prompt's batch")
        return Conditioning(
            torch.cat([p.embedding for p in parts]),
            torch.cat(pooled) if len(pooled) == len(parts) else None,
            CameraBatch.cat(cameras) if len(cameras) == len(parts) else None,
            torch.cat(controls) if controls else None,
        )


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process z_t = alpha_t z + sigma_t eps, noise growing with t.

    alpha, sigma: (T,), float32, both > 0. Variance-preserving diffusion (DDPM, Ho et al. 2020, eq. 4) has
    alpha_t^2 + sigma_t^2 = 1, rectified flow (Liu et al. 2023) alpha_t + sigma_t = 1. Nothing else may be assumed of them.
    """

    alpha: Tensor
    sigma: Tensor

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

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule on another device."""
        return NoiseSchedule(self.alpha.to(device), self.sigma.to(device))


@dataclass(frozen=True)
class PromptBatch:
    """The prompt as the guidance reads it: `positive` (for each camera's view) and `negative`, Conditioning of B each.

    negatives: further ones of B, each with a column of negative_weights (B, N), >= 0: how strongly each view is pushed away from
    them (Perp-Neg); none unless the run asks for it. texts: what losses asked for besides, by the text as they wrote it.
    """

    positive: Conditioning
    negative: Conditioning
    negatives: tuple[Conditioning, ...] = ()
    negative_weights: Tensor | None = None
    texts: Mapping[str, Conditioning] = field(default_factory=dict)

    def with_control(self, control: Tensor | None) -> PromptBatch:
        """The same, every conditioning in it with the picture `control` (B, 3, H, W)."""

        def shown(text: Conditioning) -> Conditioning:
            return replace(text, control=control)

        return PromptBatch(
            shown(self.positive),
            shown(self.negative),
            tuple(shown(text) for text in self.negatives),
            self.negative_weights,
            {wish: shown(text) for wish, text in self.texts.items()},
        )
