"""Guidances that answer for several views of a scene together. MVDream (Shi et al. 2024).

Legend: B pictures, V of them a scene; C channels of side h of the model's space; L, D tokens and width of a text embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from pydantic import Field
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, Conditioning, Guidance, GuidanceError, LocalPath, Part

from .attention import inflate

POSE = 16
"""Numbers of a camera_to_world matrix, which the network reads."""


class Inflated(Guidance):
    """A model of single pictures whose self-attention looks across the views of a scene. Nothing is trained.

    The views of a scene share what attention carries: colours and style. They do not share a shape, since no weight has learned
    where a thing in one view stands in another, and the model knows cameras only by the words of the prompter.
    """

    class Config(ComponentConfig):
        """Which model, and how many views it sees at once."""

        prior: Part[Guidance] = Part[Guidance](type="dreamfw/stable-diffusion")
        """A guidance with text and a U-Net of diffusers. It is this component's own: its attention is changed."""
        views: int = Field(default=4, ge=2)
        """V, how many consecutive views are one scene."""

    config: Inflated.Config

    @classmethod
    def sees(cls, config: Any) -> int:
        """The views of a scene."""
        return int(config.views)

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction and text."""
        return frozenset({"noise-prediction", "text"})

    def __init__(self, config: Inflated.Config) -> None:
        super().__init__()
        self.config = config
        self.prior = config.prior.build()
        own = [part for part in self.prior.modules() if isinstance(part, UNet2DConditionModel)]
        if "text" not in type(self.prior).provides(self.prior.config) or not own:
            raise GuidanceError(f"prior: {config.prior.type} has no text or no U-Net of diffusers; stable-diffusion has both")
        self.schedule, self.prediction_type = self.prior.schedule, self.prior.prediction_type
        self.space: Literal["pixel", "latent"] = self.prior.space
        self.resolution, self.latent_resolution = self.prior.resolution, self.prior.latent_resolution
        self.channels = self.prior.channels
        self._join(own[0])
        self.requires_grad_(False).eval()

    def _join(self, unet: UNet2DConditionModel) -> None:
        """Makes the network that sees the views together, from the prior's own."""
        inflate(unet, self.config.views)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: the model is frozen."""
        return super().train(False)

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Returns what the prior reads of B texts, (B, L, D)."""
        return self.prior.encode_text(texts)

    def unconditional(self) -> Conditioning:
        """Returns the prior's."""
        return self.prior.unconditional()

    def encode_image(self, image: Tensor) -> Tensor:
        """Returns images (B, 3, H, H) in [0, 1] in the prior's space, (B, C, h, h)."""
        return self.prior.encode_image(image)

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Returns (B, C, h, h) as images (B, 3, H, H) in [0, 1]."""
        return self.prior.decode_image(encoded)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the network's output (B, C, h, h); B is a multiple of V. Raises GuidanceError."""
        if len(noisy) % self.config.views:
            raise GuidanceError(f"views: {len(noisy)} pictures are not whole scenes of {self.config.views} views")
        return self._answer(noisy, timestep, conditioning)

    def _answer(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return self.prior.predict(noisy, timestep, conditioning)


class MultiView(Inflated):
    """A network of MVDream's shape: attention across the views, and the cameras' poses added to the timestep's embedding.

    The prior reads the text and encodes the pictures; the network is another. Without a folder its weights are random: it has
    the shape of a multi-view prior, and teaches nothing. MVDream, section 3.1.
    """

    class Config(Inflated.Config):
        """Which network, next to the prior that reads text and encodes pictures."""

        unet: LocalPath | None = None
        """A folder with a UNet2DConditionModel that reads poses (class_embed_type projection of 16 numbers); none: random."""

    config: MultiView.Config
    unet: Any

    def _join(self, unet: UNet2DConditionModel) -> None:
        folder = self.config.unet
        self.unet = small_network(unet) if folder is None else _read(Path(folder), unet)
        inflate(self.unet, self.config.views)

    def _answer(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        if conditioning.cameras is None:
            raise GuidanceError("multiview needs the cameras of the views, and the conditioning has none")
        dtype = self.unet.dtype
        output: Tensor = self.unet(
            noisy.to(dtype),
            timestep,
            encoder_hidden_states=conditioning.embedding.to(dtype),
            class_labels=poses(conditioning.cameras).to(dtype),
        ).sample
        return output.to(noisy.dtype)


def poses(cameras: CameraBatch) -> Tensor:
    """Returns the cameras' poses as the network reads them, (B, 16): camera to world, at distance 1 from the centre.

    MVDream's cameras differ in size and distance from run to run, so only the direction is kept.
    """
    pose = cameras.camera_to_world.clone()
    pose[:, :3, 3] = F.normalize(cameras.position, dim=-1)
    return pose.flatten(1)


def small_network(like: Any, seed: int = 0) -> UNet2DConditionModel:
    """Returns a small U-Net of random weights that fits the prior's latents and text, and reads poses."""
    with torch.random.fork_rng(devices=[]):  # the constructor draws from torch's global generator and takes no other
        torch.default_generator.manual_seed(seed)
        return UNet2DConditionModel(  # type: ignore[no-untyped-call]
            sample_size=like.config.sample_size,
            in_channels=like.config.in_channels,
            out_channels=like.config.out_channels,
            cross_attention_dim=like.config.cross_attention_dim,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            norm_num_groups=16,
            attention_head_dim=4,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=POSE,
        )


def _read(folder: Path, prior: Any) -> Any:
    """Loads a network from `folder`. Raises GuidanceError for one that does not load, or does not fit the prior."""
    try:
        unet: Any = UNet2DConditionModel.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise GuidanceError(f"unet: {folder} does not load: {' '.join(str(error).split())}") from error
    wanted = {name: prior.config[name] for name in ("sample_size", "in_channels", "out_channels", "cross_attention_dim")}
    wanted |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": POSE}
    wrong = [f"{name} is {unet.config[name]}, not {value}" for name, value in wanted.items() if unet.config[name] != value]
    if wrong:
        raise GuidanceError(f"unet: {folder} does not fit the prior's latents and text, or reads no poses: {'; '.join(wrong)}")
    return unet
