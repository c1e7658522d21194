"""Stable Diffusion 1.x and 2.x as a frozen score model, from diffusers' own classes and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw import Adapter, Conditioning
from dfw_guidance.additions import TextualInversion, spelled_out
from dfw_guidance.clip import last_hidden
from dfw_guidance.files import Files
from dfw_guidance.latent import Latent
from dfw_guidance.layouts import STABLE_DIFFUSION
from dfw_guidance.pretrained import PretrainedConfig, ddpm_schedule
from dfw_guidance.unet import check_width, load_unet


class StableDiffusion(Latent):
    """A latent diffusion model (Rombach et al. 2022) with a CLIP text encoder, a U-Net and a VAE. All of them are frozen."""

    class Config(PretrainedConfig):
        """Which model, and how it is held in memory."""

        family: ClassVar[str] = "stable-diffusion"

        model: str = "embedded"
        """`embedded` (ships with dfw), `sd15`, `sd21`, `sd21-base`, a hub id, a folder in diffusers' layout, or one file."""

        textual_inversion: tuple[TextualInversion, ...] = ()
        """New words for prompts, e.g. [{path: toy.safetensors, token: <toy>}]; `token` is the word in the file by default."""

    pipeline = "StableDiffusionPipeline"
    one_file = True
    layout = STABLE_DIFFUSION
    config: StableDiffusion.Config
    text_encoder: Any
    unet: Any

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction, text and an adapter."""
        return super().provides(config) | {"adapter"}

    def _load(self, files: Files) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = files.tokenizer(CLIPTokenizer, "tokenizer")
        self.text_encoder = files.network(CLIPTextModel, "text_encoder")
        self.unet = load_unet(files)
        check_width(self.unet, int(self.text_encoder.config.hidden_size))
        self._load_vae(files, int(self.unet.config.in_channels), int(self.unet.config.sample_size))
        self.schedule, self.prediction_type = ddpm_schedule(files.scheduler())

    def _embed(self, texts: Sequence[str]) -> Conditioning:
        texts = spelled_out(texts, self.tokenizer) if self.tokens else texts
        return Conditioning(last_hidden(self.tokenizer, self.text_encoder, texts))

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, w) in `noisy`'s dtype. It is differentiable."""
        dtype = self.unet.dtype
        with self._own_precision():
            output: Tensor = self.unet(noisy.to(dtype), timestep, encoder_hidden_states=conditioning.embedding.to(dtype)).sample
        return output.to(noisy.dtype)

    def adapter(self, rank: int, generator: torch.Generator) -> Adapter:
        """Makes low-rank weights for the U-Net's attention and an embedding of the camera (`LowRankAdapter`)."""
        from dfw import LowRankAdapter  # peft takes a second to import

        return LowRankAdapter(self, self.unet, rank, generator)
