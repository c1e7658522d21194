"""DeepFloyd IF's first stage as a frozen score model: it works in 64x64 pixels and reads T5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from dfw import Conditioning
from dfw_guidance.files import Files
from dfw_guidance.hub import find_model
from dfw_guidance.layouts import DEEP_FLOYD
from dfw_guidance.precision import dtype_of
from dfw_guidance.pretrained import Pretrained, ddpm_schedule
from dfw_guidance.t5 import T5Config, TransientT5, exists
from dfw_guidance.unet import load_unet

TEXT_LENGTH = 77
"""IF was trained with this many tokens; T5 itself can read more."""


class DeepFloyd(Pretrained):
    """A pixel-space diffusion model (DeepFloyd IF 2023, after Imagen, Saharia et al. 2022), the kind of prior DreamFusion used.

    Its U-Net predicts noise and a variance; score distillation does not use the variance. Its T5 text encoder is larger than the
    U-Net, and is in memory only while it reads new texts.
    """

    class Config(T5Config):
        """Which model, how it is held in memory, and where its text embeddings are kept."""

        family: ClassVar[str] = "deep-floyd"

        model: str = "if-xl"
        """`if-xl`, `if-l`, `if-m` (accept their licence on the hub first), a hub id, or a folder in diffusers' layout."""

    pipeline = "IFPipeline"
    layout = DEEP_FLOYD
    config: DeepFloyd.Config
    unet: Any

    def _find(self) -> Path:
        layout = self.layout.without("text_encoder", "tokenizer") if exists(self.config.embeddings) else self.layout
        return find_model(self.config.model, layout, self.config.revision, self.config.variant, self.config.family)

    def _load(self, files: Files) -> None:
        self.unet = load_unet(files, variance=True)
        self.schedule, self.prediction_type = ddpm_schedule(files.scheduler())
        self.space: Literal["pixel", "latent"] = "pixel"
        self.channels = int(self.unet.config.in_channels)
        self.resolution = self.latent_resolution = int(self.unet.config.sample_size)
        if self.channels != 3:
            raise ValueError(f"its U-Net reads {self.channels} channels, and the first stage reads 3: this is a later stage")
        width = int(self.unet.config.encoder_hid_dim or self.unet.config.cross_attention_dim)
        self.t5 = TransientT5(self._encoder_files, "text_encoder", "tokenizer", TEXT_LENGTH, width, True, self.config.embeddings)

    def _encoder_files(self) -> Files:
        config, layout = self.config, self.layout.only("text_encoder", "tokenizer")
        folder = find_model(config.model, layout, config.revision, config.variant, config.family)
        return Files(folder, config.variant)

    def _embed(self, texts: Sequence[str]) -> Conditioning:
        """Returns T5's hidden states of the texts in lower case, as diffusers' pipeline does."""
        return Conditioning(self.t5([text.lower().strip() for text in texts], self.device, self.dtype))

    def encode_image(self, image: Tensor) -> Tensor:
        """Maps images (B, 3, h, h) from [0, 1] to [-1, 1]."""
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Maps images (B, 3, h, h) from [-1, 1] to [0, 1], clipped."""
        return (encoded / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the noise (B, 3, h, h) of the U-Net's output in `noisy`'s dtype. Drops the learned variance."""
        dtype = dtype_of(self.unet)
        with self._own_precision():
            output: Tensor = self.unet(noisy.to(dtype), timestep, encoder_hidden_states=conditioning.embedding.to(dtype)).sample
        return output[:, : self.channels].to(noisy.dtype)
