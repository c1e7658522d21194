"""Holds the guidance `instruct-pix2pix` to the authors' own code on the same small random weights. It fetches nothing.

    python benchmarks/peers/instruct_pix2pix.py instruct-pix2pix     # a checkout of timothybrooks/instruct-pix2pix; needs einops

The authors' U-Net and autoencoder are built small, and diffusers makes a folder of their tensors. Their `CFGDenoiser` weighs the
three answers, and the guidance its own. The embeddings of the instruction are those of the guidance on both sides. Packages that
the authors' modules import and that these classes do not need are left empty.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import HEADER, compare, finish, shake, stand_ins
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from dfw_guidance.instruct_pix2pix import InstructPix2Pix

sys.path.insert(0, str(Path(__file__).parents[1]))
from random_sd import write

ABSENT = ("k_diffusion", "omegaconf", "omegaconf.listconfig", "pytorch_lightning", "taming", "taming.modules",
          "taming.modules.vqvae", "taming.modules.vqvae.quantize")  # fmt: skip
SIDE, LATENT, WIDTH, CHANNELS = 16, 8, 64, (64, 128)
UNET = {
    "sample_size": LATENT,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": list(CHANNELS),
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2,
    "up_block_types": ["CrossAttnUpBlock2D"] * 2,
    "attention_head_dim": 2,
    "cross_attention_dim": WIDTH,
}
VAE = {
    "sample_size": SIDE,
    "block_out_channels": list(CHANNELS),
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "scaling_factor": 0.18215,
}
TEXT_SCALE, IMAGE_SCALE = 7.5, 1.5


class Authors(nn.Module):
    """The authors' networks, with the names that a checkpoint of theirs has. Called as LatentDiffusion's denoiser is."""

    def __init__(self) -> None:
        super().__init__()
        from ldm.models.autoencoder import AutoencoderKL as VAEModel  # type: ignore[import-not-found]
        from ldm.modules.diffusionmodules.openaimodel import UNetModel  # type: ignore[import-not-found]

        network = UNetModel(
            image_size=LATENT, in_channels=8, out_channels=4, model_channels=CHANNELS[0], attention_resolutions=[1, 2],
            num_res_blocks=1, channel_mult=[1, 2], num_heads=2, use_spatial_transformer=True, transformer_depth=1,
            context_dim=WIDTH, use_checkpoint=False, legacy=False,
        )  # fmt: skip
        self.model = nn.ModuleDict({"diffusion_model": network})
        sizes = {"double_z": True, "z_channels": 4, "resolution": SIDE, "in_channels": 3, "out_ch": 3, "ch": CHANNELS[0],
                 "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
        self.first_stage_model = VAEModel(sizes, {"target": "torch.nn.Identity"}, 4)
        shake(self)

    def forward(self, z: Tensor, timestep: Tensor, cond: dict[str, list[Tensor]]) -> Tensor:
        """Answers for `hybrid` conditions. What k-diffusion puts around it is linear in the answer; both sides leave it out."""
        shown = torch.cat([z, *cond["c_concat"]], 1)
        found: Tensor = self.model["diffusion_model"](shown, timestep, context=torch.cat(cond["c_crossattn"], 1))
        return found


def folder_of(authors: Authors, folder: Path) -> Path:
    """Makes a folder in diffusers' layout of the authors' tensors, with the words of a small random model."""
    write(folder, CHANNELS, WIDTH)
    settings = folder / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text(encoding="utf-8").replace("v_prediction", "epsilon"), encoding="utf-8")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["_class_name"] = "StableDiffusionInstructPix2PixPipeline"
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    parts: tuple[tuple[str, Any, dict[str, Any]], ...] = (("unet", UNet2DConditionModel, UNET), ("vae", AutoencoderKL, VAE))
    for part, kind, sizes in parts:
        for old in (folder / part).iterdir():
            old.unlink()
        kind(**sizes).save_config(folder / part)
        start = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}[part]
        tensors = {name: value for name, value in authors.state_dict().items() if name.startswith(start)}
        kind.from_single_file(tensors, config=str(folder), subfolder=part, local_files_only=True).save_pretrained(folder / part)
    return folder


@torch.no_grad()
def main() -> None:
    """Prints a table. The exit code is 1 if the two differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of timothybrooks/instruct-pix2pix")
    asked = parser.parse_args()
    sys.path[:0] = [str(asked.checkout), str(asked.checkout / "stable_diffusion")]
    torch.manual_seed(0)  # the authors' constructors take no generator
    attributes = {"OmegaConf": None, "ListConfig": list, "LightningModule": nn.Module, "VectorQuantizer2": None}
    with stand_ins(ABSENT, **attributes):
        from edit_cli import CFGDenoiser  # type: ignore[import-not-found]

        authors = Authors()
    with tempfile.TemporaryDirectory() as place:
        folder = folder_of(authors, Path(place) / "model")
        options = {"model": str(folder), "precision": "fp32", "image_guidance_scale": IMAGE_SCALE}
        guidance = InstructPix2Pix(InstructPix2Pix.Config.model_validate(options))
    generator = torch.Generator().manual_seed(1)
    noisy, picture = torch.randn(1, 4, LATENT, LATENT, generator=generator), torch.rand(1, 3, SIDE, SIDE, generator=generator)
    words, nothing = (replace(guidance.encode_text([text]), control=picture) for text in ("make it blue", ""))
    source = authors.first_stage_model.encode(2 * picture - 1).mode()  # type: ignore[operator]
    known = {"c_crossattn": [words.embedding], "c_concat": [source]}
    unknown = {"c_crossattn": [nothing.embedding], "c_concat": [torch.zeros_like(source)]}
    print(HEADER)
    pairs = {
        "latents of the source": (source, guidance._latents(picture)),
        "latents of a render": (0.18215 * source, guidance.encode_image(picture)),
    }
    for step in (100, 800):
        timestep = torch.tensor([step])
        theirs = CFGDenoiser(authors)(noisy, timestep, known, unknown, TEXT_SCALE, IMAGE_SCALE)
        ours = guidance.predict_noise_guided(noisy, timestep, words, nothing, TEXT_SCALE)
        pairs[f"noise with both scales, timestep {step}"] = (theirs, ours)
    finish(compare(pairs))


if __name__ == "__main__":
    main()
