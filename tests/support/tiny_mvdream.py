"""Multi-view models with a few weights: in diffusers' layout, as published conversions are, and as the authors' checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from original_mvdream import PATCH, TABLE, TOKENS, MultiViewUNetModel, original
from safetensors.torch import save_file
from tiny_diffusion import save_tiny_model
from tiny_zero123 import clip_vision
from transformers import CLIPVisionModel

PROMPTED = {**TABLE, "ip_dim": TOKENS}
"""The `config.json` of ImageDream's network."""


def _renamed(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace("StableDiffusionPipeline", "MVDreamPipeline"), encoding="utf-8")


def save_tiny_mvdream(folder: Path) -> Path:
    """The tiny Stable Diffusion, with a U-Net that also reads poses."""
    save_tiny_model(folder)
    config = UNet2DConditionModel.load_config(str(folder / "unet"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        options = {**config, "class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
        UNet2DConditionModel.from_config(options).save_pretrained(str(folder / "unet"))
    _renamed(folder)
    return folder


def save_published(folder: Path) -> tuple[Path, MultiViewUNetModel]:
    """The same with the authors' class in its `unet`, under their names. Returns the network too."""
    save_tiny_model(folder)
    network = original()
    save_file(network.state_dict(), str(folder / "unet" / "diffusion_pytorch_model.safetensors"))
    (folder / "unet" / "config.json").write_text(json.dumps(TABLE), encoding="utf-8")
    _renamed(folder)
    return folder, network


def save_tiny_encoder(folder: Path) -> Path:
    """CLIP's image encoder without a head, as published folders of ImageDream have it: pictures of 16 pixels in four patches."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = clip_vision().config
        config.hidden_size, config.hidden_act = PATCH, "gelu"
        CLIPVisionModel(config).save_pretrained(folder)
    return folder


def save_published_imagedream(folder: Path) -> tuple[Path, MultiViewUNetModel]:
    """As `save_published`, with attention to a picture and the encoder of one."""
    save_tiny_model(folder)
    network = original(picture=True)
    save_file(network.state_dict(), str(folder / "unet" / "diffusion_pytorch_model.safetensors"))
    (folder / "unet" / "config.json").write_text(json.dumps(PROMPTED), encoding="utf-8")
    save_tiny_encoder(folder / "image_encoder")
    _renamed(folder)
    index = folder / "model_index.json"
    table = {**json.loads(index.read_text(encoding="utf-8")), "image_encoder": ["transformers", "CLIPVisionModel"]}
    index.write_text(json.dumps(table), encoding="utf-8")
    return folder, network


def save_checkpoint(file: Path, picture: bool = False) -> MultiViewUNetModel:
    """One file as the authors publish it: the network, and tensors of other parts. Returns the network."""
    network = original(picture=picture)
    tensors = {f"model.diffusion_model.{name}": value for name, value in network.state_dict().items()}
    others = {"betas": torch.zeros(1000), "first_stage_model.encoder.conv_in.weight": torch.zeros(2, 2)}
    torch.save({**tensors, **others}, file)
    return network
