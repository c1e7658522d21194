"""Zero-1-to-3: a model that knows one picture of a thing, and answers for every other view of it.

Legend: B views; C = 4 channels of side h of the latent space; D the width of a picture's CLIP embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dfw import CameraBatch, Conditioning, GuidanceError, ReferenceConfig, over, read_reference
from dfw_guidance.checksums import digest
from dfw_guidance.clip_vision import for_clip, squared
from dfw_guidance.damage import read_table
from dfw_guidance.files import Files
from dfw_guidance.latent import Latent
from dfw_guidance.layouts import ZERO123
from dfw_guidance.precision import dtype_of
from dfw_guidance.pretrained import PretrainedConfig, ddpm_schedule
from dfw_guidance.unet import load_unet


def relative_pose(azimuth: Tensor, elevation: Tensor, own_azimuth: Tensor, own_elevation: Tensor, last: Tensor) -> Tensor:
    """Returns where cameras stand relative to the picture's, (B, 4): Zero-1-to-3, section 3.2. All angles are (B,), in degrees.

    The numbers are the difference of polar angles (radians, larger further down), sine and cosine of the difference of azimuths,
    and `last`.
    """
    down, around = torch.deg2rad(own_elevation - elevation), torch.deg2rad(azimuth - own_azimuth)
    return torch.stack([down, around.sin(), around.cos(), last], dim=-1)


def polar(elevation: Tensor) -> Tensor:
    """Returns the polar angle of `elevation`, degrees, in radians: the fourth number of Stable Zero123's poses."""
    return torch.deg2rad(90 - elevation)


class Zero123(Latent):
    """Zero-1-to-3 (Liu et al. 2023), its XL version and Stable Zero123: the noise in a view, given a picture and a relative pose.

    The U-Net reads the noisy latents with the picture's latents next to them. It attends to one token, a linear function of the
    picture's CLIP embedding and the pose. The model that ships has as many tokens as a caption. Without a condition latents and
    tokens are 0. It reads no text. The picture is encoded once, and CLIP is not kept in memory.
    """

    class Config(PretrainedConfig, ReferenceConfig):
        """Which model, which picture, and from where the picture was taken."""

        family: ClassVar[str] = "zero123"

        model: str = "embedded"
        """`embedded` (ships with dfw), `zero123-xl`, `zero123`, `stable-zero123`, a hub id, or a folder in diffusers' layout."""
        share: float | None = Field(default=0.8, gt=0, le=1)
        """Share of a square's side that the object's larger side takes: the picture is cropped or widened to that square, with
        the object in its middle. 0.8 is near what the models were trained on; 0.65 for `embedded`. None: the picture as it is."""
        distance: float = Field(default=3.8, gt=0)
        """Of the picture's camera from the scene's centre, world units; training cameras at the same distance see it as large."""
        pose: Literal["auto", "distance", "elevation"] = "auto"
        """Fourth number of the pose: the difference in `distance` (Zero-1-to-3), or the picture's `elevation` (Stable Zero123).
        auto: elevation for models made as `embedded`, and if the name, of a path its last part, has "stable" in it."""

    pipeline = "StableDiffusionPipeline"
    layout = ZERO123
    config: Zero123.Config
    unet: Any
    projection: Any
    embedding: Tensor
    latents: Tensor

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction. It reads no text."""
        return frozenset({"noise-prediction"})

    def _open(self) -> Files:
        self.picture = read_reference(self.config)  # before anything is downloaded
        return super()._open()

    def _load(self, files: Files) -> None:
        from transformers import CLIPVisionModelWithProjection

        from dfw_guidance.pose_projection import PROJECTIONS

        name = next(name for name in PROJECTIONS if (files.folder / name).is_dir())
        kinds = {kind.__name__: kind for kind in PROJECTIONS[name]}
        self.unet = load_unet(files, beside=1)
        written = read_table(files.folder / name / "config.json").get("_class_name")
        self.projection = files.network(kinds.get(str(written), PROJECTIONS[name][0]), name)
        encoder = files.network(CLIPVisionModelWithProjection, "image_encoder").eval()
        self._load_vae(files, int(self.unet.config.out_channels), int(self.unet.config.sample_size))
        self.schedule, self.prediction_type = ddpm_schedule(files.scheduler())
        maps, width = self.projection.config, self.unet.config.cross_attention_dim
        layer = next(self.projection.children())
        found = (maps.in_channel, maps.out_channel) if "tokens" in maps else (layer.in_features, layer.out_features)
        if found != (encoder.config.projection_dim + 4, width):
            raise ValueError(
                f"its {name} maps {found[0]} numbers to {found[1]}, where image_encoder and pose give "
                f"{encoder.config.projection_dim} + 4 and the U-Net reads {width}: two models are mixed"
            )
        with torch.no_grad():
            shown = squared(over(self.picture, self.picture[..., 3], self.config.background), self.resolution)
            embedding = encoder(for_clip(shown, encoder.config.image_size)).image_embeds
            # not scaled, unlike the latents that are denoised: so were the models trained
            latents = self.vae.encode(2 * shown - 1).latent_dist.mode()
        self.register_buffer("embedding", embedding[:, None], persistent=False)
        self.register_buffer("latents", latents, persistent=False)

    def facts(self) -> dict[str, Any]:
        """Returns the picture and its checksum next to what it returns of every model."""
        return {**super().facts(), "image": {"path": self.config.image, "sha256": digest(Path(self.config.image))}}

    def conditional(self) -> Conditioning:
        """Returns the picture: its embedding (1, 1, D), and 1 for `known`."""
        return Conditioning(self.embedding, extras={"known": self.embedding.new_ones(1)})

    def unconditional(self) -> Conditioning:
        """Returns no picture: zeros, and 0 for `known`."""
        return Conditioning(torch.zeros_like(self.embedding), extras={"known": self.embedding.new_zeros(1)})

    def relative_pose(self, cameras: CameraBatch) -> Tensor:
        """Returns where cameras stand relative to the picture's, (B, 4): `relative_pose` in this module.

        The last number is the difference of distances (world units), or for Stable Zero123 the picture's own polar angle.
        """
        config = self.config
        azimuth, elevation = (torch.full_like(cameras.azimuth, angle) for angle in (config.azimuth, config.elevation))
        last = polar(elevation) if self._absolute() else cameras.distance - config.distance
        return relative_pose(cameras.azimuth, cameras.elevation, azimuth, elevation, last)

    def _absolute(self) -> bool:
        """Whether the fourth number of a pose is the picture's own polar angle."""
        if self.config.pose == "auto":
            return "tokens" in self.projection.config or "stable" in Path(self.config.model).name.lower()
        return self.config.pose == "elevation"

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, h) in `noisy`'s dtype. Raises GuidanceError if there are no cameras."""
        if conditioning.cameras is None:
            raise GuidanceError("zero123 needs the cameras of the views, and the conditioning has none")
        dtype = dtype_of(self.unet)
        known = conditioning.extras["known"].to(dtype)
        pose = self.relative_pose(conditioning.cameras)[:, None].to(dtype)
        beside = known[:, None, None, None] * self.latents.to(dtype)
        with self._own_precision():
            token = known[:, None, None] * self.projection(torch.cat([conditioning.embedding.to(dtype), pose], dim=-1))
            output: Tensor = self.unet(torch.cat([noisy.to(dtype), beside], dim=1), timestep, encoder_hidden_states=token).sample
        return output.to(noisy.dtype)

    def _embed(self, texts: Any) -> Conditioning:
        raise GuidanceError("zero123 reads no text")
