"""Stable Diffusion 1.x and 2.x as a frozen score model, from diffusers' own classes and files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveInt, field_validator
from torch import Tensor

from dfw import Adapter, Conditioning, Model, path_or_name
from dfw_guidance.additions import TextualInversion, spelled_out
from dfw_guidance.aliases import FAMILIES, settled
from dfw_guidance.clip import last_hidden
from dfw_guidance.files import Files
from dfw_guidance.hub import find_model, model_facts
from dfw_guidance.known import models_of
from dfw_guidance.latent import Latent
from dfw_guidance.layouts import AUTOENCODER, STABLE_DIFFUSION
from dfw_guidance.precision import dtype_of
from dfw_guidance.pretrained import PretrainedConfig, ddpm_schedule, loading
from dfw_guidance.unet import check_width, load_unet


class StableDiffusion(Latent):
    """A latent diffusion model (Rombach et al. 2022) with a CLIP text encoder, a U-Net and a VAE. All of them are frozen."""

    class Config(PretrainedConfig):
        """Which model, and how it is held in memory."""

        family: ClassVar[str] = "stable-diffusion"

        model: str = "embedded"
        """`embedded` (ships with dfw), `sd15`, `sd21`, `sd21-base`, a hub id, a folder in diffusers' layout, or one file. For a
        CPU: `bk-tiny`, `bk-small`, `bk-base`, `tiny-sd`, `small-sd`. Made for few steps: `sd-turbo`, `lcm`."""
        resolution: PositiveInt | None = None
        """Side of the images that the model sees, pixels; by default its own. Smaller is faster and less sure."""
        autoencoder: str | None = None
        """A small autoencoder in the place of the VAE, much faster and a little less exact: `taesd`, a hub id or a folder."""
        embedded_guidance: NonNegativeFloat = 8.5
        """Guidance scale that a latent consistency model (`lcm`) reads, diffusers' convention. The loss's own should be 1."""

        textual_inversion: tuple[TextualInversion, ...] = ()
        """New words for prompts, e.g. [{path: toy.safetensors, token: <toy>}]; `token` is the word in the file by default."""

        @field_validator("autoencoder", mode="before")
        @classmethod
        def _path_of_autoencoder(cls, value: object) -> object:
            return path_or_name(value, FAMILIES["autoencoder"])

        @field_validator("autoencoder")
        @classmethod
        def _autoencoder(cls, value: str | None) -> str | None:
            return None if value is None else settled(value, "autoencoder")

    pipeline = "StableDiffusionPipeline"
    one_file = True
    layout = STABLE_DIFFUSION
    config: StableDiffusion.Config
    text_encoder: Any
    unet: Any
    beside: ClassVar[int] = 0
    """Pictures that the U-Net reads next to the noisy one."""

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the models that have short names, and the small autoencoder."""
        return (*super().models(), *models_of("autoencoder", AUTOENCODER))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction, text and an adapter."""
        return super().provides(config) | {"adapter"}

    def _open(self) -> Files:
        if self.config.autoencoder is not None:
            self.layout = self.layout.without("vae")
        return super()._open()

    def _small_autoencoder(self) -> Any:
        from diffusers import AutoencoderTiny

        name = self.config.autoencoder
        if name is None:
            return None
        folder = find_model(name, AUTOENCODER, family="autoencoder", field="guidance.autoencoder")
        self.autoencoder_files = Files(folder, None)
        with loading(f"guidance.autoencoder: {name!r} ({folder})"):
            return self.autoencoder_files.network(AutoencoderTiny, "")

    def facts(self) -> dict[str, Any]:
        """Returns the same of the small autoencoder, if there is one, next to what it returns of the model."""
        if self.config.autoencoder is None:
            return super().facts()
        files = self.autoencoder_files
        small = model_facts(self.config.autoencoder, files.folder, files.weights(AUTOENCODER), None)
        return {**super().facts(), "autoencoder": small}

    def _load(self, files: Files) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = files.tokenizer(CLIPTokenizer, "tokenizer")
        self.text_encoder = files.network(CLIPTextModel, "text_encoder")
        self.unet = self._load_unet(files)
        check_width(self.unet, int(self.text_encoder.config.hidden_size))
        self._load_vae(files, int(self.unet.config.out_channels), int(self.unet.config.sample_size), self.config.resolution)
        self.schedule, self.prediction_type = ddpm_schedule(files.scheduler())

    def _load_unet(self, files: Files) -> Any:
        return load_unet(files, beside=self.beside, told=True)

    def _embed(self, texts: Sequence[str]) -> Conditioning:
        texts = spelled_out(texts, self.tokenizer) if self.tokens else texts
        return Conditioning(last_hidden(self.tokenizer, self.text_encoder, texts))

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, w) in `noisy`'s dtype. It is differentiable."""
        return self._ask(noisy, timestep, conditioning.embedding)

    def _ask(self, noisy: Tensor, timestep: Tensor, text: Tensor, **more: Any) -> Tensor:
        """Returns the U-Net's output in `noisy`'s dtype, for what it reads next to a text (B, L, D) in `more`."""
        dtype = dtype_of(self.unet)
        with self._own_precision():
            output: Tensor = self.unet(
                noisy.to(dtype), timestep, encoder_hidden_states=text.to(dtype), timestep_cond=self._told(noisy), **more
            ).sample
        return output.to(noisy.dtype)

    def _told(self, noisy: Tensor) -> Tensor | None:
        """Returns `embedded_guidance` (B, D) as a latent consistency model (Luo et al. 2023) reads it; None for other models."""
        width = self.unet.config.time_cond_proj_dim
        if width is None:
            return None
        steps = torch.arange(width // 2, device=noisy.device) / (width // 2 - 1)
        angle = 1000 * (self.config.embedded_guidance - 1) * torch.exp(-math.log(10_000) * steps)
        return torch.cat([angle.sin(), angle.cos()]).expand(len(noisy), -1).to(dtype_of(self.unet))

    def adapter(self, rank: int, generator: torch.Generator) -> Adapter:
        """Makes low-rank weights for the U-Net's attention and an embedding of the camera (`LowRankAdapter`)."""
        from dfw import LowRankAdapter  # peft takes a second to import

        return LowRankAdapter(self, self.unet, rank, generator)
