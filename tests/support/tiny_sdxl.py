"""A Stable Diffusion XL of the real classes with a few thousand random weights, saved in diffusers' own format."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tiny_diffusion import LENGTH, tokenizer
from tiny_text import clip_encoder
from transformers import CLIPTextModel, CLIPTextModelWithProjection

FIRST, SECOND = 8, 12
"""Widths of the two text encoders."""


def tiny_vae(channels: int, **options: float | bool) -> AutoencoderKL:
    """16x16 pixels to 8x8 latents of so many channels; `options` as AutoencoderKL's."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=channels,
        sample_size=16,
        **options,
    )


def save_tiny_sdxl(folder: Path, seed: int = 0, force_upcast: bool = True) -> Path:
    """16x16 pixels to 8x8 latents of 4 channels; texts of width 8 + 12, six numbers on size and crop."""
    words = tokenizer(folder.with_name(folder.name + "-words"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = clip_encoder(CLIPTextModel, words, FIRST, LENGTH)
        second = clip_encoder(CLIPTextModelWithProjection, words, SECOND, LENGTH, projection=SECOND)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 2),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            cross_attention_dim=FIRST + SECOND,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + SECOND,
            norm_num_groups=4,
        )
        vae = tiny_vae(4, scaling_factor=0.13025, force_upcast=force_upcast)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    ).save_pretrained(str(folder))
    return folder
