"""The first stage of DeepFloyd IF, of the real classes with a few thousand random weights, saved in diffusers' own format."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
from tiny_text import t5_encoder, t5_tokenizer


def save_tiny_deep_floyd(folder: Path, seed: int = 0) -> Path:
    """16x16 pixels, a U-Net with the kinds of block, text pooling and learned variance of the large ones, T5 of width 8."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text = t5_encoder(8)
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=3,
            out_channels=6,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            attention_head_dim=4,
            cross_attention_dim=32,
            encoder_hid_dim=8,
            encoder_hid_dim_type="text_proj",
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            cross_attention_norm="group_norm",
            resnet_time_scale_shift="scale_shift",
            time_embedding_act_fn="gelu",
            act_fn="gelu",
            norm_num_groups=4,
        )
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", prediction_type="epsilon", thresholding=True
    )
    IFPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=text,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    ).save_pretrained(str(folder))
    return folder
