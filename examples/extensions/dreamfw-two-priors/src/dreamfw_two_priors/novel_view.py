"""A model that knows one picture and answers for other views of the same thing. Zero-1-to-3 (Liu et al. 2023).

Legend: B views; C = 4 channels of side h of the latent space; D the width of a picture's CLIP embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from PIL import Image
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from dfw import CameraBatch, ComponentConfig, Conditioning, Guidance, GuidanceError, LocalPath, NoiseSchedule

Channel = Annotated[float, Field(ge=0, le=1)]

PARTS = ("unet", "vae", "image_encoder", "cc_projection", "scheduler")
"""Sub-folders of a model, as diffusers' Zero-1-to-3 pipeline writes them."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class CCProjection(ModelMixin, ConfigMixin):
    """The linear layer from a picture's embedding and a relative pose to what the U-Net attends to."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, in_channel: int = 772, out_channel: int = 768) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.projection = nn.Linear(in_channel, out_channel)

    def forward(self, known: Tensor) -> Tensor:
        """Maps (..., in_channel) to (..., out_channel)."""
        found: Tensor = self.projection(known)
        return found


class NovelView(Guidance):
    """The noise in a view of a thing, given another view: a picture, and where the camera stands relative to the picture's.

    The U-Net reads the noisy latents with the picture's latents next to them, 2 C channels, and attends to one token, a linear
    function of the picture's CLIP embedding and the relative pose. Without a condition both are 0. Zero-1-to-3, section 3.2.
    """

    class Config(ComponentConfig):
        """Which model, which picture, and from where the picture was taken."""

        model: LocalPath
        """A folder in diffusers' layout, with unet, vae, image_encoder, cc_projection and scheduler."""
        image: LocalPath
        """The reference: a square PNG, JPEG or WebP file."""
        azimuth: float = 0.0
        """Of the picture's camera, degrees; 0 sees the object's front."""
        elevation: float = Field(default=0.0, ge=-90, le=90)
        """Of the picture's camera, degrees above the horizon."""
        distance: PositiveFloat = 3.0
        """Of the picture's camera from the scene's centre, world units."""
        background: tuple[Channel, Channel, Channel] = (1.0, 1.0, 1.0)
        """Colour behind transparent pixels of the picture, display-referred RGB; Zero-1-to-3 was trained on white."""

    config: NovelView.Config
    unet: Any
    vae: Any
    cc_projection: Any
    embedding: Tensor
    latents: Tensor

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction. It reads no text."""
        return frozenset({"noise-prediction"})

    def __init__(self, config: NovelView.Config) -> None:
        super().__init__()
        self.config = config
        folder = Path(config.model)
        with _loading(folder):
            self.unet = _read(UNet2DConditionModel, folder / "unet")
            self.vae = _read(AutoencoderKL, folder / "vae")
            self.cc_projection = _read(CCProjection, folder / "cc_projection")
            encoder = _read(CLIPVisionModelWithProjection, folder / "image_encoder").eval()
            scheduler = _read(DDPMScheduler, folder / "scheduler")
            _check_fit(self.unet.config, self.vae.config, self.cc_projection.config, encoder.config.projection_dim)
        self.schedule = NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
        self.prediction_type = scheduler.config.prediction_type
        self.space: Literal["pixel", "latent"] = "latent"
        self.channels, self.latent_resolution = int(self.unet.config.out_channels), int(self.unet.config.sample_size)
        self.resolution = self.latent_resolution * int(2 ** (len(self.vae.config.block_out_channels) - 1))
        self.requires_grad_(False).eval()
        with torch.no_grad():  # the picture never changes, so the image encoder is asked once and not kept
            picture = read_reference(Path(config.image), self.resolution, config.background)
            embedding = encoder(_for_clip(picture, encoder.config.image_size)).image_embeds
            # not scaled for the U-Net, unlike the latents that are denoised: so was Zero-1-to-3 trained
            latents = self.vae.encode(2 * picture - 1).latent_dist.mode()
        self.register_buffer("embedding", embedding[:, None], persistent=False)
        self.register_buffer("latents", latents, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: the model is frozen."""
        return super().train(False)

    def conditional(self) -> Conditioning:
        """The picture: its embedding (1, 1, D), and 1 for `known`."""
        return Conditioning(self.embedding, extras={"known": self.embedding.new_ones(1)})

    def unconditional(self) -> Conditioning:
        """No picture: zeros, and 0 for `known`."""
        return Conditioning(torch.zeros_like(self.embedding), extras={"known": self.embedding.new_zeros(1)})

    def encode_image(self, image: Tensor) -> Tensor:
        """Returns latents (B, C, h, h), scaled for the U-Net, of images (B, 3, H, H) in [0, 1]: the posterior's mean."""
        mean: Tensor = self.vae.encode((2 * image - 1).to(self.vae.dtype)).latent_dist.mean
        return (mean * float(self.vae.config.scaling_factor)).to(image.dtype)

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Returns images (B, 3, H, H) in [0, 1] of latents (B, C, h, h)."""
        image: Tensor = self.vae.decode((encoded / float(self.vae.config.scaling_factor)).to(self.vae.dtype)).sample
        return (image.to(encoded.dtype) / 2 + 0.5).clamp(0, 1)

    def relative_pose(self, cameras: CameraBatch) -> Tensor:
        """Returns where cameras stand relative to the picture's, (B, 4).

        The numbers are the polar angle (radians, larger further down), sine and cosine of the azimuth, and the distance (world
        units), each minus the picture's. Zero-1-to-3, section 3.2.
        """
        down = torch.deg2rad(self.config.elevation - cameras.elevation)
        around = torch.deg2rad(cameras.azimuth - self.config.azimuth)
        return torch.stack([down, around.sin(), around.cos(), cameras.distance - self.config.distance], dim=-1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, h). Raises GuidanceError if the conditioning has no cameras."""
        if conditioning.cameras is None:
            raise GuidanceError("novel-view needs the cameras of the views, and the conditioning has none")
        dtype = self.unet.dtype
        known = conditioning.extras["known"].to(dtype)
        pose = self.relative_pose(conditioning.cameras).to(dtype)[:, None]
        token = known[:, None, None] * self.cc_projection(torch.cat([conditioning.embedding.to(dtype), pose], dim=-1))
        beside = known[:, None, None, None] * self.latents.to(dtype)
        output: Tensor = self.unet(torch.cat([noisy.to(dtype), beside], dim=1), timestep, encoder_hidden_states=token).sample
        return output.to(noisy.dtype)


def read_reference(path: Path, side: int, background: Sequence[float]) -> Tensor:
    """Returns a picture (1, 3, `side`, `side`) in [0, 1] over `background`. Raises GuidanceError."""
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGBA"), dtype=np.float32) / 255
    except OSError as error:
        raise GuidanceError(f"image: {path} cannot be read as a picture ({error}); give a PNG, JPEG or WebP file") from None
    height, width = pixels.shape[:2]
    if height != width:
        raise GuidanceError(f"image: {path} is {width}x{height}; crop it to a square with the object in the middle")
    alpha = pixels[..., 3:]
    shown = torch.from_numpy(alpha * pixels[..., :3] + (1 - alpha) * np.asarray(background, dtype=np.float32))
    planes = shown.permute(2, 0, 1)[None]
    return F.interpolate(planes, size=(side, side), mode="bilinear", antialias=side < width).clamp(0, 1)


def _for_clip(picture: Tensor, side: int) -> Tensor:
    """Returns the picture as CLIP reads it: of its size and with its statistics (Radford et al. 2021)."""
    resized = F.interpolate(picture, size=(side, side), mode="bicubic", align_corners=True)
    mean, std = (picture.new_tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (resized - mean) / std


def _read(part: Any, folder: Path) -> Any:
    """Loads a part, a class of diffusers or transformers, from its folder; never from the hub."""
    return part.from_pretrained(folder, local_files_only=True)


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Hides the library's progress bar while a model loads, and turns failures into a GuidanceError that names the folder."""
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise GuidanceError(
            f"model: the folder {folder} lacks {', '.join(missing)}; give one in diffusers' layout, or make one of random "
            f"weights with `python -m dreamfw_two_priors.random_model --out {folder}`"
        )
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise GuidanceError(f"model: {folder} does not load: {' '.join(str(error).split())}") from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_fit(unet: Mapping[str, Any], vae: Mapping[str, Any], projection: Mapping[str, Any], width: int) -> None:
    """Checks that the networks' sizes fit together. Raises ValueError."""
    channels = int(vae["latent_channels"])
    if unet["in_channels"] != 2 * channels or unet["out_channels"] != channels:
        raise ValueError(
            f"the unet maps {unet['in_channels']} channels to {unet['out_channels']}; it must read the noisy latents and the "
            f"picture's, {2 * channels}, and give {channels}"
        )
    if (projection["in_channel"], projection["out_channel"]) != (width + 4, unet["cross_attention_dim"]):
        raise ValueError(
            f"cc_projection maps {projection['in_channel']} numbers to {projection['out_channel']}; image_encoder and pose give "
            f"{width} + 4, and the unet attends to {unet['cross_attention_dim']}"
        )
