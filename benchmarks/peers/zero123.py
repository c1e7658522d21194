"""Holds the guidance `zero123` to the authors' own networks on the same small random weights. It fetches nothing.

    python benchmarks/peers/zero123.py zero123/zero123 CLIP    # checkouts of cvlab-columbia/zero123 and openai/CLIP; needs einops

The authors' U-Net, autoencoder and OpenAI's image encoder are built small, and their tensors become a checkpoint in the authors'
layout. `dfw_guidance.convert` makes a folder of it, and the guidance reads that. Both then answer for the same picture, noise and
poses. Packages that the authors' modules import and that these networks do not need are left empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import HEADER, compare, finish, shake, stand_ins
from PIL import Image
from torch import Tensor, nn

from dfw import Conditioning, cameras_at
from dfw_guidance.convert import convert_zero123
from dfw_guidance.zero123 import Zero123

ABSENT = ("torchvision", "matplotlib", "matplotlib.pyplot", "cv2", "carvekit", "carvekit.api", "carvekit.api.high", "taming",
          "taming.modules", "taming.modules.vqvae", "taming.modules.vqvae.quantize", "pytorch_lightning")  # fmt: skip
SIDE, LATENT, WIDTH = 16, 8, 32
ELEVATION, AZIMUTH, DISTANCE = 10.0, 30.0, 2.5
UNET = {
    "sample_size": LATENT,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2,
    "up_block_types": ["CrossAttnUpBlock2D"] * 2,
    "attention_head_dim": 2,
    "cross_attention_dim": WIDTH,
}
VAE = {
    "sample_size": SIDE,
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
}
CLIP = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": WIDTH,
}


class Authors(nn.Module):
    """The authors' networks, with the names that a checkpoint of theirs has."""

    def __init__(self, clip: Path) -> None:
        super().__init__()
        from ldm.models.autoencoder import AutoencoderKL  # type: ignore[import-not-found]
        from ldm.modules.diffusionmodules.openaimodel import UNetModel  # type: ignore[import-not-found]

        spec = importlib.util.spec_from_file_location("clip_model", clip / "clip" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        model = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(model)
        self.model = nn.ModuleDict(
            {
                "diffusion_model": UNetModel(
                    image_size=LATENT, in_channels=8, out_channels=4, model_channels=32, attention_resolutions=[1, 2],
                    num_res_blocks=1, channel_mult=[1, 2], num_heads=2, use_spatial_transformer=True, transformer_depth=1,
                    context_dim=WIDTH, use_checkpoint=False, legacy=False,
                )
            }
        )  # fmt: skip
        sizes = {"double_z": True, "z_channels": 4, "resolution": SIDE, "in_channels": 3, "out_ch": 3, "ch": 32,
                 "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
        self.first_stage_model = AutoencoderKL(sizes, {"target": "torch.nn.Identity"}, 4)
        visual = model.VisionTransformer(CLIP["image_size"], CLIP["patch_size"], CLIP["hidden_size"], 2, 1, WIDTH)
        self.cond_stage_model = nn.ModuleDict({"model": nn.ModuleDict({"visual": visual})})
        self.cc_projection = nn.Linear(WIDTH + 4, WIDTH)
        shake(self)

    def condition(self, picture: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Returns token (B, 1, D) and latents (B, 4, h, h) of a picture (1, 3, H, H) in [-1, 1], as LatentDiffusion does."""
        side = CLIP["image_size"]
        sized = (F.interpolate(picture, (side, side), mode="bicubic", align_corners=True) + 1) / 2  # as kornia's resize
        mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
        visual: Any = self.cond_stage_model["model"]["visual"]  # type: ignore[index]
        seen = visual((sized - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))[:, None].expand(len(pose), -1, -1)
        beside = self.first_stage_model.encode(picture).mode().expand(len(pose), -1, -1, -1)
        return self.cc_projection(torch.cat([seen, pose[:, None]], -1)), beside

    def answer(self, noisy: Tensor, timestep: Tensor, token: Tensor, beside: Tensor) -> Tensor:
        """Returns the U-Net's output, as DiffusionWrapper does for `hybrid` conditions."""
        found: Tensor = self.model["diffusion_model"](torch.cat([noisy, beside], 1), timestep, context=token)
        return found


def held(authors: Authors, folder: Path, stable: bool) -> float:
    """Prints how far the guidance is from the authors' networks, with each number's own size; returns the largest difference."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    options = {"model": str(folder / "model"), "image": str(folder / "picture.png"), "share": None, "precision": "fp32"}
    pose = {"elevation": ELEVATION, "azimuth": AZIMUTH, "distance": DISTANCE, "pose": "elevation" if stable else "distance"}
    guidance = Zero123(Zero123.Config.model_validate(options | pose))
    elevation, azimuth, distance = torch.tensor([30.0, 5.0]), torch.tensor([120.0, -100.0]), torch.tensor([3.0, 2.0])
    last = torch.deg2rad(torch.full((2,), 90 - ELEVATION)) if stable else distance - DISTANCE
    down, around = torch.deg2rad((90 - elevation) - (90 - ELEVATION)), torch.deg2rad(azimuth - AZIMUTH)
    asked = torch.stack([down, around.sin(), around.cos(), last], -1)
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    generator = torch.Generator().manual_seed(1)
    noisy, timestep = torch.randn(2, 4, LATENT, LATENT, generator=generator), torch.tensor([100, 800])
    cameras = cameras_at(azimuth, elevation, distance, torch.full((2,), 49.1), SIDE, SIDE)
    with torch.no_grad():
        token, beside = authors.condition(picture, asked)
        pairs = {"latents of the picture": (beside[:1], guidance.latents)}
        for name, share, known in (("with", 1, guidance.conditional()), ("without", 0, guidance.unconditional())):
            theirs = authors.answer(noisy, timestep, share * token, share * beside)
            both: Conditioning = known.mapped(lambda tensor: tensor.expand(2, *tensor.shape[1:]))
            pairs[f"noise {name} the picture"] = (theirs, guidance.predict(noisy, timestep, replace(both, cameras=cameras)))
        image = torch.rand(1, 3, SIDE, SIDE, generator=generator)
        pairs["latents of a render"] = (
            0.18215 * authors.first_stage_model.encode(2 * image - 1).mode(),  # type: ignore[operator]
            guidance.encode_image(image),
        )
    return compare(pairs)


def main() -> None:
    """Prints two tables. The exit code is 1 if they differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zero123", type=Path, help="the folder that holds the authors' package ldm")
    parser.add_argument("clip", type=Path, help="a checkout of OpenAI's CLIP")
    asked = parser.parse_args()
    sys.path.insert(0, str(asked.zero123))
    torch.manual_seed(0)  # the authors' constructors take no generator
    with stand_ins(ABSENT, HiInterface=None, VectorQuantizer2=None, LightningModule=nn.Module):
        authors, worst = Authors(asked.clip), 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        convert_zero123(authors.state_dict(), folder / "model", UNET, VAE, CLIP)
        for stable in (False, True):
            print(f"{'Stable Zero123' if stable else 'Zero-1-to-3'}\n{HEADER}")
            worst = max(worst, held(authors, folder, stable))
    finish(worst)


if __name__ == "__main__":
    main()
