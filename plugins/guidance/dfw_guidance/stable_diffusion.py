"""Stable Diffusion 1.x and 2.x as a frozen score model, from diffusers' own classes and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from pydantic import field_validator
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from dfw import ComponentConfig, Conditioning, Guidance, GuidanceError, NoiseSchedule, PromptError
from dfw_guidance.aliases import candidates
from dfw_guidance.hub import find_model
from dfw_guidance.precision import DTYPES, Precision, fit_gradient, unfit_gradient
from dfw_guidance.vocabulary import Vocabulary


class StableDiffusion(Guidance):
    """A latent diffusion model (Rombach et al. 2022): CLIP text encoder, U-Net, VAE and noise schedule, none of them trained."""

    class Config(ComponentConfig):
        """Which model, and how it is held in memory."""

        model: str = "embedded"
        """`embedded` (ships with dfw, no download), `sd15`, `sd21`, `sd21-base`, a hub id, or a folder in diffusers' layout."""
        revision: str | None = None
        """Branch, tag or commit of the hub repository."""
        variant: str | None = None
        """Weight files' variant, e.g. fp16 for diffusion_pytorch_model.fp16.safetensors."""
        precision: Precision = "auto"
        """Of the frozen weights: fp32, fp16, bf16; auto: fp16 on CUDA, fp32 elsewhere."""
        channels_last: bool = False
        """Convolution weights in channels-last memory order: often faster on recent GPUs in fp16."""

        @field_validator("model")
        @classmethod
        def _name(cls, value: str) -> str:
            candidates(value)
            return value

    config: StableDiffusion.Config
    text_encoder: Any
    unet: Any
    vae: Any

    @classmethod
    def provides(cls, config: StableDiffusion.Config) -> frozenset[str]:
        """It predicts noise, and reads text."""
        return frozenset({"noise-prediction", "text"})

    def __init__(self, config: StableDiffusion.Config) -> None:
        super().__init__()
        self.config = config
        folder = find_model(config.model, config.revision, config.variant)
        self.vocabulary = Vocabulary.read(folder)
        try:
            with _no_progress_bar():
                self._load(folder, config.variant)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise GuidanceError(
                f"guidance.model: {config.model!r} ({folder}) does not load: {' '.join(str(error).split())}"
            ) from error
        if config.channels_last:
            self.unet.to(memory_format=torch.channels_last)
            self.vae.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()
        self._cast(torch.device("cpu"))

    def _load(self, folder: Path, variant: str | None) -> None:
        def part(kind: Any, name: str) -> Any:
            return kind.from_pretrained(str(folder), subfolder=name, variant=variant, use_safetensors=True, local_files_only=True)

        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder="tokenizer", local_files_only=True)
        self.text_encoder = part(CLIPTextModel, "text_encoder")
        self.unet = part(UNet2DConditionModel, "unet")
        self.vae = part(AutoencoderKL, "vae")
        settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        scheduler: Any = DDPMScheduler.from_config(settings)  # type: ignore[no-untyped-call]
        self.schedule = NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod)
        self.space: Literal["pixel", "latent"] = "latent"
        self.channels = int(self.unet.config.in_channels)
        self.latent_resolution = int(self.unet.config.sample_size)
        self.resolution = self.latent_resolution * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.prediction_type = scheduler.config.prediction_type
        if self.channels != int(self.vae.config.latent_channels):
            raise ValueError(f"its U-Net reads {self.channels} channels and its VAE makes {self.vae.config.latent_channels}")
        self._embeddings: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.unet.device)

    def train(self, mode: bool = True) -> StableDiffusion:
        """Stays in evaluation mode: the model is frozen, its dropout off."""
        return super().train(False)

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Embeddings (B, L, D), float32, of B texts; each distinct text is encoded once in the life of the model.

        Raises PromptError for words outside the model's vocabulary, when it ships one, and for texts longer than it can read.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._embeddings]
        if new:
            if self.vocabulary is not None:
                self.vocabulary.check(new)
            self._embeddings.update(zip(new, self._embed(new), strict=True))
        return Conditioning(torch.stack([self._embeddings[text] for text in texts]).to(self.device))

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        for text in texts:
            count = len(self.tokenizer(text).input_ids)
            if count > length:
                raise PromptError(f"prompt: {text!r} has {count - 2} tokens and this model reads {length - 2}; shorten it")
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt").to(self.device)
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        with self._own_precision():
            hidden = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask if masked else None)[0]
        embedding: Tensor = hidden.float()
        return embedding

    def encode_image(self, image: Tensor) -> Tensor:
        """The mean of the VAE's posterior, scaled as the U-Net expects: (B, 3, H, W) in [0, 1] -> (B, C, h, w), in its dtype.

        Nothing is drawn: the posterior of Stable Diffusion's VAE is narrow beside the noise that a loss adds.
        """
        scaled, memory = fit_gradient(2 * image - 1, self.vae.dtype)
        with self._own_precision():
            mean = self.vae.encode(scaled).latent_dist.mean
        return unfit_gradient(mean, image.dtype, memory) * float(self.vae.config.scaling_factor)

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W) in [0, 1], in the latents' dtype."""
        with self._own_precision():
            image: Tensor = self.vae.decode((encoded / float(self.vae.config.scaling_factor)).to(self.vae.dtype)).sample
        return (image.to(encoded.dtype) / 2 + 0.5).clamp(0, 1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's output (B, C, h, w) in `noisy`'s dtype; differentiable unless the caller says otherwise."""
        dtype = self.unet.dtype
        with self._own_precision():
            output: Tensor = self.unet(noisy.to(dtype), timestep, encoder_hidden_states=conditioning.embedding.to(dtype)).sample
        return output.to(noisy.dtype)

    def _own_precision(self) -> torch.autocast:
        """The frozen weights' precision is this component's own: a surrounding autocast does not reach into it."""
        return torch.autocast(self.device.type, enabled=False)

    def _cast(self, device: torch.device) -> None:
        precision = self.config.precision
        automatic = torch.float16 if device.type == "cuda" else torch.float32
        dtype = automatic if precision == "auto" else DTYPES[precision]
        for part in (self.text_encoder, self.unet, self.vae):
            if part.dtype != dtype:
                torch.nn.Module.to(part, dtype=dtype)  # diffusers' own .to() warns about modules it has none of

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StableDiffusion:
        """Moves with `.to(device)`; the weights' dtype follows `precision`, the schedule stays in float32."""
        device = fn(torch.empty(0, device=self.device)).device
        self._cast(device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._cast(device)
        self.schedule = self.schedule.to(device)
        self._embeddings = {text: embedding.to(device) for text, embedding in self._embeddings.items()}
        return self


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """The second that loading takes needs no bar among the run's own output."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
