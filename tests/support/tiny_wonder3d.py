"""A Wonder3D with a few thousand random weights, under the names and settings that published folders have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from tiny_zero123 import clip_vision
from torch import Tensor

SIZES: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "norm_num_groups": 4,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 10,
}
"""Of diffusers' class; the mid-block has attention too."""


def tensors(joint: float = 1.0) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
    """The network without its attention between domains, and all tensors; `joint`: size of what that attention adds."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain: Any = UNet2DConditionModel
        unet = plain(**SIZES)
        table = dict(unet.state_dict())
        for name in [name for name in table if name.endswith("attn1.to_q.weight")]:
            block, width = name.removesuffix("attn1.to_q.weight"), len(table[name])
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                size = joint if part == "to_out.0" else 1
                table[f"{block}attn_joint_mid.{part}.weight"] = size * torch.randn(width, width) / width**0.5
            table[f"{block}attn_joint_mid.to_out.0.bias"] = joint * torch.randn(width)
            table[f"{block}norm_joint_mid.weight"], table[f"{block}norm_joint_mid.bias"] = torch.randn(2, width)
    return unet.eval(), {name: value.contiguous().clone() for name, value in table.items()}


def save_tiny_wonder3d(folder: Path, joint: float = 1.0) -> Path:
    """16x16 pixels to 8x8 latents of 4 channels."""
    _, table = tensors(joint)
    blocks = {name: [one.replace("2D", "MV2D") if "Attn" in one else one for one in SIZES[name]] for name in
              ("down_block_types", "up_block_types")}  # fmt: skip
    settings = {**SIZES, **blocks, "mid_block_type": "UNetMidBlockMV2DCrossAttn", "_class_name": "UNetMV2DConditionModel"}
    settings |= {"num_views": 6, "cd_attention_mid": True, "cd_attention_last": False, "multiview_attention": True}
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(table, str(folder / "unet" / "diffusion_pytorch_model.safetensors"))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        library: Any = AutoencoderKL
        vae = library(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=2,
            latent_channels=4,
            sample_size=16,
        )
        clip_vision().save_pretrained(folder / "image_encoder")
    vae.save_pretrained(folder / "vae")
    scheduler: Any = DDIMScheduler
    scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False).save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "MVDiffusionImagePipeline"}), encoding="utf-8")
    return folder
