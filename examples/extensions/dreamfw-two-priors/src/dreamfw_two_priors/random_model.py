"""Makes a small model of random weights in the layout of Zero-1-to-3, to try `novel-view` without a download.

python -m dreamfw_two_priors.random_model --out novel-view
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import dfw

from .novel_view import CCProjection

WIDTH = 32
"""Numbers of the picture's embedding, and of what the U-Net attends to."""


def make(folder: Path, seed: int = 0) -> Path:
    """Writes the model into `folder` and returns it. The autoencoder is the embedded prior's; all else is random.

    What such a model says of a view is noise: it shows that the parts fit together, and teaches nothing.
    """
    vae: Any = autoencoder()
    side, channels = 16, int(vae.config["latent_channels"])
    with torch.random.fork_rng(devices=[]):  # the libraries' constructors draw from torch's global generator and take no other
        torch.default_generator.manual_seed(seed)
        unet = UNet2DConditionModel(  # type: ignore[no-untyped-call]
            sample_size=side,
            in_channels=2 * channels,
            out_channels=channels,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            norm_num_groups=16,
            attention_head_dim=4,
            cross_attention_dim=WIDTH,
        )
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
                projection_dim=WIDTH,
            )
        )
        projection = CCProjection(WIDTH + 4, WIDTH)
    # Zero-1-to-3's own schedule
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")  # type: ignore[no-untyped-call]
    parts: dict[str, Any] = {
        "unet": unet,
        "vae": vae,
        "image_encoder": encoder,
        "cc_projection": projection,
        "scheduler": scheduler,
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return folder


def autoencoder() -> AutoencoderKL:
    """Returns the autoencoder of the prior that ships with dfw: 64 x 64 pixels to 4 channels of 16 x 16."""
    prior = cast(nn.Module, dfw.build("guidance", "dreamfw/stable-diffusion", model="embedded"))
    return next(part for part in prior.modules() if isinstance(part, AutoencoderKL))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("novel-view"), help="folder to write into (default: %(default)s)")
    print(make(parser.parse_args().out))


if __name__ == "__main__":
    main()
