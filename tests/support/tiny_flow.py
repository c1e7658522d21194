"""Stable Diffusion 3 and Flux of the real classes with a few thousand random weights, saved in diffusers' own format."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tiny_diffusion import LENGTH, tokenizer
from tiny_sdxl import tiny_vae
from tiny_text import clip_encoder, t5_encoder, t5_tokenizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection

SCALE, SHIFT = 1.5305, 0.0609
"""Of Stable Diffusion 3's VAE."""


def save_tiny_sd3(folder: Path, seed: int = 0, t5: bool = True, shift: float = 3.0) -> Path:
    """16x16 pixels to 8x8 latents of 4 channels, texts of 12 + 256 tokens of width 20 (CLIP's 8 + 8 and four zeros)."""
    words = tokenizer(folder.with_name(folder.name + "-words"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoders = [clip_encoder(CLIPTextModelWithProjection, words, 8, LENGTH, projection=8) for _ in range(2)]
        text = t5_encoder(20)
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=20,
            caption_projection_dim=16,
            pooled_projection_dim=16,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
        )
        transformer.proj_out.reset_parameters()
        vae = tiny_vae(4, scaling_factor=SCALE, shift_factor=SHIFT)
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=encoders[0],
        tokenizer=words,
        text_encoder_2=encoders[1],
        tokenizer_2=words,
        text_encoder_3=text if t5 else None,
        tokenizer_3=t5_tokenizer(256) if t5 else None,
    ).save_pretrained(str(folder))
    return folder


def save_tiny_flux(folder: Path, seed: int = 0, guidance_embeds: bool = True) -> Path:
    """Any multiple of 4 pixels to half of that in latents of 4 channels, 2x2 of them a token; texts of 512 tokens of width 8."""
    words = tokenizer(folder.with_name(folder.name + "-words"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip, text = clip_encoder(CLIPTextModel, words, 8, LENGTH), t5_encoder(8)
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 6, 6),
        )
        vae = tiny_vae(4, scaling_factor=0.3611, shift_factor=0.1159)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=clip,
        tokenizer=words,
        text_encoder_2=text,
        tokenizer_2=t5_tokenizer(512),
        transformer=transformer,
    ).save_pretrained(str(folder))
    return folder
