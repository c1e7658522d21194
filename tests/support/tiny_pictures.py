"""Models that see a picture next to the text, of the real classes with a few thousand random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tiny_diffusion import WIDTH, save_tiny_model
from tiny_zero123 import clip_vision


def save_tiny_instruct(folder: Path, seed: int = 0) -> Path:
    """An InstructPix2Pix: the tiny Stable Diffusion with a U-Net of eight channels."""
    plain = StableDiffusionPipeline.from_pretrained(str(save_tiny_model(folder.with_name(f"{folder.name}-plain"), seed=seed)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel.from_config({**plain.unet.config, "in_channels": 8})
    parts = {**plain.components, "unet": unet, "safety_checker": None, "feature_extractor": None, "image_encoder": None}
    StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False).save_pretrained(str(folder))
    return folder


def save_tiny_ip_adapter(folder: Path, seed: int = 0) -> Path:
    """An adapter for the tiny Stable Diffusion, in the layout of h94/IP-Adapter: four tokens from a picture of 16 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = clip_vision()
        table = {
            "image_proj.proj.weight": torch.randn(4 * WIDTH, WIDTH),
            "image_proj.proj.bias": torch.randn(4 * WIDTH),
            "image_proj.norm.weight": torch.ones(WIDTH),
            "image_proj.norm.bias": torch.zeros(WIDTH),
        }
        for place in range(3):  # attentions to the text: one on the way down, two on the way up; the middle one comes last
            for name in "kv":
                table[f"ip_adapter.{2 * place + 1}.to_{name}_ip.weight"] = torch.randn(16, WIDTH)
        for name in "kv":
            table[f"ip_adapter.7.to_{name}_ip.weight"] = torch.randn(16, WIDTH)
    encoder.save_pretrained(folder / "models" / "image_encoder")
    save_file(table, folder / "models" / "ip-adapter_sd15.safetensors")
    return folder
