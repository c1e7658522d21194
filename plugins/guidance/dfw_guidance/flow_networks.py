"""The transformers of rectified flow models and their texts: Stable Diffusion 3 and Flux.

Legend: B images, C channels and side h of the latents, L tokens, D width of the text, P of the pooled text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import Conditioning
from dfw_guidance.clip import penultimate_hidden
from dfw_guidance.files import Files
from dfw_guidance.layouts import FLUX, STABLE_DIFFUSION_3, Layout, absent_parts


class FlowNetwork(ABC):
    """A transformer with its CLIP text encoders."""

    layout: ClassVar[Layout]
    """Layout of the model's folder."""
    t5_parts: ClassVar[tuple[str, str]]
    """Sub-folders of T5 and of its tokenizer."""
    text_length: ClassVar[int]
    """Tokens that T5 reads, as in the model's pipeline."""

    parts: dict[str, Any]
    """Name -> transformer or text encoder."""
    channels: int
    """C."""
    side: int
    """The h that the model was trained on."""
    patch: int
    """Latent pixels along a token's side."""
    text_width: int
    """D."""

    @abstractmethod
    def __init__(self, files: Files, embedded_guidance: float) -> None: ...

    @classmethod
    def lacks_t5(cls, files: Files) -> bool:
        """Returns whether the model's index says that it comes without T5."""
        return not absent_parts(files.folder).isdisjoint(cls.t5_parts)

    @abstractmethod
    def embed(self, texts: Sequence[str], states: Tensor) -> Conditioning:
        """Returns embeddings (B, L, D) and pooled embeddings (B, P), float32. `states` (B, text_length, D) come from T5."""

    @abstractmethod
    def velocity(self, noisy: Tensor, level: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """Returns v = eps - z (B, C, h, w), in the network's precision, at noise levels s = `level` (B,)."""


class SD3Network(FlowNetwork):
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024): it reads the tokens of two CLIP encoders, then those of T5."""

    layout = STABLE_DIFFUSION_3
    t5_parts = ("text_encoder_3", "tokenizer_3")
    text_length = 256

    def __init__(self, files: Files, embedded_guidance: float) -> None:
        from diffusers import SD3Transformer2DModel
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        names = ("", "_2")
        self.tokenizers = [files.tokenizer(CLIPTokenizer, f"tokenizer{name}") for name in names]
        self.encoders = [files.network(CLIPTextModelWithProjection, f"text_encoder{name}") for name in names]
        self.transformer = files.network(SD3Transformer2DModel, "transformer")
        self.parts = {"transformer": self.transformer, "text_encoder": self.encoders[0], "text_encoder_2": self.encoders[1]}
        config = self.transformer.config
        self.channels, self.side, self.patch = int(config.in_channels), int(config.sample_size), int(config.patch_size)
        self.text_width = int(config.joint_attention_dim)

    def embed(self, texts: Sequence[str], states: Tensor) -> Conditioning:
        """Joins both CLIP encoders' states, pads them with zeros to T5's width, and appends T5's. Joins both pooled outputs."""
        pairs = [penultimate_hidden(words, encoder, texts) for words, encoder in zip(self.tokenizers, self.encoders, strict=True)]
        hidden = torch.cat([hidden for hidden, _ in pairs], -1)
        hidden = F.pad(hidden, (0, self.text_width - hidden.shape[-1]))
        return Conditioning(torch.cat([hidden, states], 1), torch.cat([pooled for _, pooled in pairs], -1))

    def velocity(self, noisy: Tensor, level: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """Returns the transformer's output. It counts noise levels from 0 to 1,000."""
        dtype = self.transformer.dtype
        output: Tensor = self.transformer(
            noisy.to(dtype),
            timestep=1000 * level,
            encoder_hidden_states=text.to(dtype),
            pooled_projections=pooled.to(dtype),
        ).sample
        return output


class FluxNetwork(FlowNetwork):
    """Flux (Black Forest Labs 2024): it reads T5's tokens and CLIP's pooled output. Each 2x2 latent pixels are one token."""

    layout = FLUX
    t5_parts = ("text_encoder_2", "tokenizer_2")
    text_length = 512

    def __init__(self, files: Files, embedded_guidance: float) -> None:
        from diffusers import FluxTransformer2DModel
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = files.tokenizer(CLIPTokenizer, "tokenizer")
        self.encoder = files.network(CLIPTextModel, "text_encoder")
        self.transformer = files.network(FluxTransformer2DModel, "transformer")
        self.parts = {"transformer": self.transformer, "text_encoder": self.encoder}
        config = self.transformer.config
        self.patch = 2
        self.channels, self.side = int(config.in_channels) // self.patch**2, 128
        self.text_width = int(config.joint_attention_dim)
        self.guidance = embedded_guidance if config.guidance_embeds else None

    def embed(self, texts: Sequence[str], states: Tensor) -> Conditioning:
        """Returns T5's states, and CLIP's output at the end of the text."""
        return Conditioning(states, penultimate_hidden(self.tokenizer, self.encoder, texts)[1])

    def velocity(self, noisy: Tensor, level: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """Packs the latents into tokens, runs the transformer and unpacks its output."""
        dtype, side = self.transformer.dtype, noisy.shape[-1] // self.patch
        scale = None if self.guidance is None else torch.full_like(level, self.guidance)
        output: Tensor = self.transformer(
            F.pixel_unshuffle(noisy.to(dtype), self.patch).flatten(2).transpose(1, 2),
            timestep=level,
            guidance=scale,
            encoder_hidden_states=text.to(dtype),
            pooled_projections=pooled.to(dtype),
            txt_ids=torch.zeros(text.shape[1], 3, device=noisy.device),
            img_ids=places(side, noisy.device),
        ).sample
        return F.pixel_shuffle(output.transpose(1, 2).reshape(len(noisy), -1, side, side), self.patch)


def places(side: int, device: torch.device) -> Tensor:
    """Returns (0, row, column) of each token of a square picture, row by row: (side^2, 3)."""
    along = torch.arange(side, device=device, dtype=torch.float32)
    row, column = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).flatten(0, 1)
