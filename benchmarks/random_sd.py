"""Makes a Stable Diffusion of a given size with random weights, in diffusers' format, for timing without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENIZER = Path(__file__).parents[1] / "plugins" / "guidance" / "dfw_guidance" / "embedded" / "tokenizer"
SD21 = (320, 640, 1280, 1280)
"""Channels of Stable Diffusion 2.1's U-Net, which has 866 M parameters."""


def write(folder: Path, channels: tuple[int, ...] = SD21, width: int = 1024, side: int = 64) -> Path:
    """Writes the pipeline to `folder` in half precision.

    width: width of the text embedding. side: side of the latents; 64 stands for images of 512 pixels.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(str(TOKENIZER))
    deep = len(channels)
    unet = UNet2DConditionModel(
        sample_size=side,
        block_out_channels=channels,
        cross_attention_dim=width,
        attention_head_dim=[max(c // 64, 1) for c in channels],
        use_linear_projection=True,
        down_block_types=(*("CrossAttnDownBlock2D",) * (deep - 1), "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (deep - 1)),
    )
    vae_channels = (128, 256, 512, 512) if channels == SD21 else channels
    vae = AutoencoderKL(
        sample_size=8 * side,
        block_out_channels=vae_channels,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * len(vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(vae_channels),
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
            num_attention_heads=max(width // 64, 1), max_position_embeddings=77,
        )
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
"""What the U-Nets of Stable Diffusion 1 and of those distilled from it have in common."""
SMALL: dict[str, dict[str, Any]] = {
    "bk-tiny": {
        **SD15,
        "layers_per_block": 1,
        "mid_block_type": None,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    },
    "bk-small": {**SD15, "layers_per_block": 1, "mid_block_type": None},
    "bk-base": {**SD15, "layers_per_block": 1},
    "sd15": SD15,
    "sd-turbo": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
}
"""Name of a model -> its U-Net, where it differs from diffusers' defaults: the settings that Nota publishes, and Stability's."""


def write_small(folder: Path, name: str) -> Path:
    """Writes a model of SMALL with its real text encoder, next to a TAESD in `folder/autoencoder`, in bfloat16."""
    torch.manual_seed(0)
    settings = SMALL[name]
    width = settings["cross_attention_dim"]
    layers = 12 if width == 768 else 23
    text = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64
    )
    torch.set_default_dtype(torch.bfloat16)
    try:
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(
                sample_size=512,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
            ),
            text_encoder=CLIPTextModel(text),
            tokenizer=CLIPTokenizer.from_pretrained(str(TOKENIZER), model_max_length=77),
            unet=UNet2DConditionModel(sample_size=64, **settings),
            scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        AutoencoderTiny().save_pretrained(str(folder / "autoencoder"))
    finally:
        torch.set_default_dtype(torch.float32)
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder
