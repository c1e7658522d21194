"""A Zero-1-to-3 of the real classes with a few thousand random weights, saved as the published conversions are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dfw_guidance.pose_projection import CCProjection, CLIPCameraProjection

WIDTH = 8


def clip_vision(width: int = WIDTH) -> CLIPVisionModelWithProjection:
    """Pictures of 16 pixels in four patches, to `width` numbers."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
            projection_dim=width,
            hidden_act="quick_gelu",
        )
    )


def save_tiny_zero123(folder: Path, other: bool = False, seed: int = 0) -> Path:
    """16x16 pixels to 8x8 latents of 4 channels; `other`: with the other published names of pipeline and pose layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=WIDTH,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=2,
            latent_channels=4,
            sample_size=16,
        )
        encoder = clip_vision()
        projection = CLIPCameraProjection(WIDTH) if other else CCProjection(WIDTH + 4, WIDTH)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    name = "clip_camera_projection" if other else "cc_projection"
    parts = {"unet": unet, "vae": vae, "image_encoder": encoder, name: projection, "scheduler": scheduler}
    for part, network in parts.items():
        network.save_pretrained(folder / part)
    index = {"_class_name": "Zero123Pipeline" if other else "Zero1to3StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
