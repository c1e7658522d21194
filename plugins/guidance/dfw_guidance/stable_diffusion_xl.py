"""Stable Diffusion XL as a frozen score model: it has two text encoders, and its U-Net reads the picture's size and crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from dfw import Conditioning
from dfw_guidance.additions import TextualInversion, spelled_out
from dfw_guidance.clip import penultimate_hidden
from dfw_guidance.files import Files
from dfw_guidance.latent import Latent
from dfw_guidance.layouts import STABLE_DIFFUSION_XL
from dfw_guidance.precision import dtype_of
from dfw_guidance.pretrained import PretrainedConfig, ddpm_schedule
from dfw_guidance.unet import check_width, load_unet


class StableDiffusionXL(Latent):
    """SDXL's base model (Podell et al. 2023). Its VAE stays in fp32 if its configuration says that fp16 overflows."""

    class Config(PretrainedConfig):
        """Which model, how it is held in memory, and the size inputs of its U-Net (Podell et al. 2023, section 2.2)."""

        family: ClassVar[str] = "stable-diffusion-xl"

        model: str = "sdxl"
        """`sdxl`, a hub id, a folder in diffusers' layout, or a .safetensors file."""
        resolution: PositiveInt | None = None
        """Side of the images that the model sees, pixels; by default 1024, its training size. Smaller is faster and less sure."""
        original_size: tuple[PositiveInt, PositiveInt] | None = None
        """Height and width of the picture before it was resized, pixels; by default `resolution`. Small means blurred."""
        crop: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
        """Top and left of the crop, pixels. (0, 0) means a centred object."""
        target_size: tuple[PositiveInt, PositiveInt] | None = None
        """Height and width of the picture now, pixels; by default `resolution`."""

        textual_inversion: tuple[TextualInversion, ...] = ()
        """New words for prompts, e.g. [{path: toy.safetensors, token: <toy>}]; `token` is the word in the file by default."""

    pipeline = "StableDiffusionXLPipeline"
    one_file = True
    layout = STABLE_DIFFUSION_XL
    config: StableDiffusionXL.Config
    text_encoder: Any
    text_encoder_2: Any
    unet: Any

    def _load(self, files: Files) -> None:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.tokenizer = files.tokenizer(CLIPTokenizer, "tokenizer")
        self.tokenizer_2 = files.tokenizer(CLIPTokenizer, "tokenizer_2")
        self.text_encoder = files.network(CLIPTextModel, "text_encoder")
        self.text_encoder_2 = files.network(CLIPTextModelWithProjection, "text_encoder_2")
        self.unet = load_unet(files, "text_time")
        check_width(self.unet, sum(int(encoder.config.hidden_size) for encoder in (self.text_encoder, self.text_encoder_2)))
        self._load_vae(files, int(self.unet.config.in_channels), int(self.unet.config.sample_size), self.config.resolution)
        self.schedule, self.prediction_type = ddpm_schedule(files.scheduler())
        self.zero_for_empty = bool(files.index().get("force_zeros_for_empty_prompt", False))
        own = (self.resolution, self.resolution)
        config = self.config
        self.time_ids = (*(config.original_size or own), *config.crop, *(config.target_size or own))

    def _dtype_of(self, name: str, dtype: torch.dtype) -> torch.dtype:
        overflows = name == "vae" and dtype == torch.float16 and bool(self.vae.config.force_upcast)
        return torch.float32 if overflows else dtype

    def _embed(self, texts: Sequence[str]) -> Conditioning:
        """Returns both encoders' states side by side (B, L, D1 + D2), and the second encoder's pooled output (B, D2).

        The empty text becomes zeros if the model's index asks for it, as in the pipeline without a negative prompt.
        """
        written = spelled_out(texts, self.tokenizer) if self.tokens else texts
        first, _ = penultimate_hidden(self.tokenizer, self.text_encoder, written)
        second, pooled = penultimate_hidden(self.tokenizer_2, self.text_encoder_2, written)
        kept = torch.tensor([bool(text) or not self.zero_for_empty for text in texts], device=first.device).float()
        return Conditioning(torch.cat([first, second], -1) * kept[:, None, None], pooled * kept[:, None])

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, w) in `noisy`'s dtype. Needs `conditioning.pooled`."""
        dtype = dtype_of(self.unet)
        time_ids = torch.tensor([self.time_ids] * len(noisy), device=noisy.device, dtype=dtype)
        assert conditioning.pooled is not None, "encode_text gives both"
        added = {"text_embeds": conditioning.pooled.to(dtype), "time_ids": time_ids}
        with self._own_precision():
            output: Tensor = self.unet(
                noisy.to(dtype), timestep, encoder_hidden_states=conditioning.embedding.to(dtype), added_cond_kwargs=added
            ).sample
        return output.to(noisy.dtype)
