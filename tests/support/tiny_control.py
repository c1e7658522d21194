"""A ControlNet of the real class with a few thousand random weights, saved in diffusers' own format."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel
from tiny_diffusion import WIDTH


def save_tiny_controlnet(folder: Path, seed: int = 1, width: int = WIDTH) -> Path:
    """For the tiny Stable Diffusion, pictures of 16x16 pixels; its closing convolutions, zero at birth, are random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ControlNetModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=width,
            norm_num_groups=4,
            conditioning_embedding_out_channels=(4, 8),
        )
        zeros = [*network.controlnet_down_blocks.parameters(), *network.controlnet_mid_block.parameters()]
        for parameter in [*zeros, *network.controlnet_cond_embedding.conv_out.parameters()]:
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(str(folder))
    return folder
