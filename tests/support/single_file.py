"""Writes a tiny Stable Diffusion as one file, with the names of the original code (latent-diffusion), as civitai serves."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
"""Layer of a residual block: diffusers' name -> the original one, in the U-Net."""
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
"""Layer of an attention block: diffusers' name -> the original one, in the autoencoder."""


def _renamed(key: str, places: dict[str, str], layers: dict[str, str]) -> str:
    """Replaces the start of a name by its place, and then the layers' names."""
    start = max((start for start in places if key.startswith(start)), key=len)
    rest = key.removeprefix(start)
    for theirs, original in layers.items():
        rest = re.sub(rf"(^|\.){re.escape(theirs)}\.", rf"\g<1>{original}.", rest)
    return places[start] + rest


def unet(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two levels of one layer: the second has attention. `input_blocks` and `output_blocks` count through all levels."""
    places = {
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "add_embedding.linear_1.": "label_emb.0.0.",
        "add_embedding.linear_2.": "label_emb.0.2.",
        "conv_in.": "input_blocks.0.0.",
        "down_blocks.0.resnets.0.": "input_blocks.1.0.",
        "down_blocks.0.downsamplers.0.conv.": "input_blocks.2.0.op.",
        "down_blocks.1.resnets.0.": "input_blocks.3.0.",
        "down_blocks.1.attentions.0.": "input_blocks.3.1.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
        "up_blocks.0.resnets.0.": "output_blocks.0.0.",
        "up_blocks.0.attentions.0.": "output_blocks.0.1.",
        "up_blocks.0.resnets.1.": "output_blocks.1.0.",
        "up_blocks.0.attentions.1.": "output_blocks.1.1.",
        "up_blocks.0.upsamplers.0.": "output_blocks.1.2.",
        "up_blocks.1.resnets.0.": "output_blocks.2.0.",
        "up_blocks.1.resnets.1.": "output_blocks.3.0.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
    }
    return {_renamed(key, places, RESNET if "resnets" in key else {}): value for key, value in table.items()}


def vae(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two levels of one layer; the decoder counts its levels from the small end. Attention is written as 1x1 convolutions."""
    places = {"quant_conv.": "quant_conv.", "post_quant_conv.": "post_quant_conv."}
    for side in ("encoder", "decoder"):
        places |= {f"{side}.{one}.": f"{side}.{one}." for one in ("conv_in", "conv_out")}
        places |= {f"{side}.conv_norm_out.": f"{side}.norm_out.", f"{side}.mid_block.attentions.0.": f"{side}.mid.attn_1."}
        places |= {f"{side}.mid_block.resnets.{n}.": f"{side}.mid.block_{n + 1}." for n in (0, 1)}
    places |= {f"encoder.down_blocks.{n}.resnets.0.": f"encoder.down.{n}.block.0." for n in (0, 1)}
    places |= {"encoder.down_blocks.0.downsamplers.0.": "encoder.down.0.downsample."}
    places |= {f"decoder.up_blocks.{n}.resnets.{m}.": f"decoder.up.{1 - n}.block.{m}." for n in (0, 1) for m in (0, 1)}
    places |= {"decoder.up_blocks.0.upsamplers.0.": "decoder.up.1.upsample."}
    written = {}
    for key, value in table.items():
        name = _renamed(key, places, ATTENTION if "attentions" in key else {"conv_shortcut": "nin_shortcut"})
        written[name] = value[:, :, None, None] if ".attn_1." in name and value.dim() == 2 else value
    return written


def open_clip(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second text encoder of SDXL: query, key and value are one matrix, and the projection is transposed."""
    places = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.": "token_embedding.",
        "text_model.final_layer_norm.": "ln_final.",
        "text_model.encoder.layers.": "transformer.resblocks.",
        "text_projection.weight": "text_projection",
    }
    layers = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn": "attn"}
    written = {}
    for key, value in table.items():
        name = _renamed(key, places, layers)
        if ".q_proj." in name:
            joined = torch.cat([table[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            written[name.replace("q_proj.", "in_proj_")] = joined
        elif not re.search(r"[kv]_proj", name):
            written[name] = value.T if name == "text_projection" else value
    return written


def save_single_file(folder: Path, to: Path) -> Path:
    """Writes the tiny model of `save_tiny_model` or `save_tiny_sdxl` in `folder` as one file."""
    network = "diffusion_pytorch_model.safetensors"
    table = {f"model.diffusion_model.{key}": value for key, value in unet(load_file(folder / "unet" / network)).items()}
    table |= {f"first_stage_model.{key}": value for key, value in vae(load_file(folder / "vae" / network)).items()}
    large = (folder / "text_encoder_2").is_dir()
    head = f"{'conditioner.embedders.0' if large else 'cond_stage_model'}.transformer.text_model."
    text = load_file(folder / "text_encoder" / "model.safetensors")
    table |= {head + key.removeprefix("text_model."): value for key, value in text.items()}
    table[f"{head}embeddings.position_ids"] = torch.arange(12)[None]
    if large:
        second = open_clip(load_file(folder / "text_encoder_2" / "model.safetensors"))
        table |= {f"conditioner.embedders.1.model.{key}": value for key, value in second.items()}
    table["betas"] = torch.zeros(1000)
    save_file({key: value.contiguous() for key, value in table.items()}, to)
    return to
