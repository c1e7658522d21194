"""Holds Wonder3D's network to the authors' own on the same random weights. It fetches nothing.

    python benchmarks/peers/wonder3d.py Wonder3D    # a checkout of xxlong0/Wonder3D; needs einops

The authors' U-Net is built with two levels, and saved as their published folder is: its tensors and its settings. The command's
`Wonder3D` reads that folder. Both then answer for the same noisy views, picture and timestep: with the picture, without it, and
guided, for which the authors ask one call of 24 rows in an order of its own. Their code was written for a diffusers of 2023, and
what has moved or gone since is put where it looks for it. Attention, which it takes from xformers, is torch's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from common import HEADER, attention, compare, finish, shake, stand_ins
from diffusers import AutoencoderKL, DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dfw_guidance import wonder3d_network
from dfw_guidance.wonder3d import Wonder3D

LIVES_NOW = (
    "loaders",
    "models.attention",
    "models.attention_processor",
    "models.downsampling",
    "models.embeddings",
    "models.lora",
    "models.model_loading_utils",
    "models.modeling_utils",
    "models.normalization",
    "models.resnet",
    "models.transformers.dual_transformer_2d",
    "models.unets.unet_2d_blocks",
    "models.upsampling",
    "utils",
    "utils.torch_utils",
)
"""Modules of diffusers that hold what the authors' code takes from others."""
LIVED = (
    "diffusers.loaders",
    "diffusers.models.attention",
    "diffusers.models.dual_transformer_2d",
    "diffusers.models.modeling_utils",
    "diffusers.models.resnet",
    "diffusers.models.unet_2d_blocks",
    "diffusers.utils",
)
GONE = ("DIFFUSERS_CACHE", "FLAX_WEIGHTS_NAME", "HF_HUB_OFFLINE", "is_safetensors_available")
"""What diffusers has no more, and what only loading a folder used."""
ABSENT = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
CHANNELS, WIDTH, SIDE, SCALE = (64, 128), 64, 8, 3.0
SIZES: dict[str, Any] = {
    "sample_size": SIDE,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": CHANNELS,
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlockMV2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlockMV2D"),
    "attention_head_dim": 8,
    "cross_attention_dim": WIDTH,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 10,
    "num_views": 6,
    "cd_attention_mid": True,
    "cd_attention_last": False,
    "multiview_attention": True,
    "sparse_mv_attention": False,
}
"""The published settings, with fewer and narrower levels."""
PLACES = torch.tensor([(*place, *domain) for domain in wonder3d_network.DOMAINS for place in wonder3d_network.PLACES])
"""What the network reads of each row's camera and domain."""


def authors_code(checkout: Path) -> tuple[Any, Any]:
    """Imports the authors' U-Net and pipeline. Returns their classes."""
    sys.path.insert(0, str(checkout))
    names: dict[str, Any] = dict.fromkeys(GONE)
    for module in LIVES_NOW:
        names |= {name: value for name, value in vars(import_module(f"diffusers.{module}")).items() if not name.startswith("__")}
    with stand_ins((*LIVED, *ABSENT), **names):
        from mvdiffusion.models import transformer_mv2d  # type: ignore[import-not-found]
        from mvdiffusion.models.unet_mv2d_condition import UNetMV2DConditionModel  # type: ignore[import-not-found]
        from mvdiffusion.pipelines.pipeline_mvdiffusion_image import MVDiffusionImagePipeline  # type: ignore[import-not-found]
    transformer_mv2d.xformers = SimpleNamespace(ops=SimpleNamespace(memory_efficient_attention=attention))
    return UNetMV2DConditionModel, MVDiffusionImagePipeline


def save(unet: Any, folder: Path) -> None:
    """Writes a folder in the layout of the published one, with a small autoencoder and image encoder."""
    (folder / "unet").mkdir(parents=True)
    settings = {**unet.config, "_class_name": type(unet).__name__}
    (folder / "unet" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    tensors = {name: value.contiguous() for name, value in unet.state_dict().items()}
    save_file(tensors, str(folder / "unet" / "diffusion_pytorch_model.safetensors"))
    library: Any = AutoencoderKL
    deep = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    library(**deep, block_out_channels=(32, 32), sample_size=2 * SIDE).save_pretrained(folder / "vae")
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPVisionConfig(**sizes, image_size=2 * SIDE, patch_size=SIDE, projection_dim=WIDTH)
    CLIPVisionModelWithProjection(clip).save_pretrained(folder / "image_encoder")
    scheduler: Any = DDIMScheduler
    scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "MVDiffusionImagePipeline"}), encoding="utf-8")


def answers(unet: Any, pipeline: Any, noisy: Tensor, timestep: Tensor, token: Tensor, beside: Tensor) -> list[Tensor]:
    """Returns what the authors' network says with the picture, without it, and guided; labels and order are their pipeline's."""
    labels = pipeline.prepare_camera_embedding(PLACES, do_classifier_free_guidance=True)
    token, beside = token.expand(12, -1, -1), beside.expand(12, -1, -1, -1)
    rows = [torch.cat(pair) for pair in ((noisy, noisy), (0 * beside, beside), (0 * token, token))] + [labels]
    shown, pictures, tokens, labels = (pipeline.reshape_to_cd_input(one) for one in rows)
    found = unet(torch.cat([shown, pictures], 1), timestep, encoder_hidden_states=tokens, class_labels=labels).sample
    without, with_picture = pipeline.reshape_to_cfg_output(found).chunk(2)
    return [with_picture, without, without + SCALE * (with_picture - without)]


@torch.no_grad()
def main() -> None:
    """Prints a table. The exit code is 1 if they differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wonder3d", type=Path, help="a checkout of xxlong0/Wonder3D")
    network, pipelines = authors_code(parser.parse_args().wonder3d)
    torch.manual_seed(0)  # the authors' constructors take no generator
    unet = network(**SIZES)
    shake(unet)
    for layer in unet.modules():
        if hasattr(layer, "set_use_memory_efficient_attention_xformers") and type(layer).__name__.startswith("Custom"):
            layer.set_use_memory_efficient_attention_xformers(True)  # as the authors' scripts do; the other way lacks an argument
    with tempfile.TemporaryDirectory() as place:
        save(unet, Path(place) / "made")
        with patch("dfw_guidance.wonder3d.chosen_precision", return_value=torch.float32):
            ours = Wonder3D(str(Path(place) / "made"))
    scheduler: Any = DDIMScheduler  # whose constructor has no types
    parts = {"vae": ours.vae, "image_encoder": ours.encoder, "unet": unet, "scheduler": scheduler.from_config(ours.scheduler)}
    pipeline = pipelines(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False, num_views=6)
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(12, 4, SIDE, SIDE, generator=generator)
    token, beside = ours.condition(torch.rand(1, 3, 2 * SIDE, 2 * SIDE, generator=generator))
    timestep = torch.tensor(400)
    known, unknown = (ours.predict(noisy, timestep, share * token, share * beside) for share in (1, 0))
    own = [known, unknown, unknown + SCALE * (known - unknown)]
    theirs = answers(unet, pipeline, noisy, timestep, token, beside)
    constants = pipeline.camera_embedding.float(), PLACES.half().float()  # theirs are in half precision
    names = ("noise with the picture", "noise without it", "noise, guided")
    print(f"Wonder3D\n{HEADER}")
    worst = compare({"cameras and domains": constants, **dict(zip(names, zip(theirs, own, strict=True), strict=True))})
    finish(worst)


if __name__ == "__main__":
    main()
