"""Reads the weights of ImageDream: MVDream's U-Net with attention to a picture, under its authors' names for the tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dfw import GuidanceError
from dfw_guidance.damage import read_table
from dfw_guidance.files import Files
from dfw_guidance.mvdream_weights import ORIGINAL, PREFIX, copy_base, from_original, original_tensors, translated

RESAMPLER = f"{PREFIX}image_embed."
"""Start of the names of the network that makes tokens of a picture's CLIP features."""
_ATTENTION = re.compile(r"\.attn2\.to_[kv]_ip\.weight$")
_PATH = {"input_blocks": 0, "output_blocks": 1, "middle_block": 2}
"""Parts of the network, in the order in which diffusers counts the attentions to a picture."""

UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "transformer_depth": 1,
    "context_dim": 1024,
    "camera_dim": 16,
    "ip_dim": 16,
}
"""Sizes of the published model: the authors' sd_v2_base_ipmv.yaml."""


def load_prompted_unet(files: Files) -> Any:
    """Loads the U-Net of a folder that holds the authors' tensors. Raises ValueError for another network."""
    table = read_table(files.folder / "unet" / "config.json")
    if (found := table.get("_class_name")) != ORIGINAL:
        raise ValueError(f"its unet is a {found}, and ImageDream's is a {ORIGINAL}; python -m dfw_guidance.convert makes one")
    return from_prompted(original_tensors(files), table)


def from_prompted(tensors: Mapping[str, Tensor], table: Mapping[str, Any]) -> Any:
    """Makes diffusers' U-Net of the tensors of a checkpoint and the settings of its class, with attention to a picture.

    Both networks for pictures are those of IP-Adapter (plus): diffusers reads them. Raises ValueError if tensors are missing.
    """
    pictures = {name: value for name, value in tensors.items() if name.startswith(RESAMPLER) or _ATTENTION.search(name)}
    if not pictures:
        raise ValueError("its U-Net sees no picture: it has no tensors image_embed, so it is a model for guidance.type=mvdream")
    unet = from_original({name: value for name, value in tensors.items() if name not in pictures}, translated(table))
    places = sorted({_ATTENTION.sub("", name) for name in pictures if not name.startswith(RESAMPLER)}, key=_place)
    attention = {
        f"{2 * index + 1}.to_{part}_ip.weight": pictures.get(f"{place}.attn2.to_{part}_ip.weight")
        for index, place in enumerate(places)
        for part in "kv"
    }
    resampler = {name.removeprefix(RESAMPLER): value for name, value in pictures.items() if name.startswith(RESAMPLER)}
    seen = sum(name.endswith("attn2.processor") for name in unet.attn_processors)
    if len(places) != seen or None in attention.values() or "latents" not in resampler:
        raise ValueError(f"unet lacks tensors: {len(places)} of its {seen} attentions see a picture; fetch it again")
    try:  # strictly: with low_cpu_mem_usage a lost tensor would stay empty
        unet._load_ip_adapter_weights([{"image_proj": resampler, "ip_adapter": attention}], low_cpu_mem_usage=False)
    except (KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"unet lacks tensors of image_embed, or they have other shapes ({why}); fetch it again") from None
    return unet


def _place(name: str) -> tuple[int, ...]:
    """Returns where a layer stands in diffusers' count: down, up, middle."""
    part = name.removeprefix(PREFIX).partition(".")[0]
    return (_PATH.get(part, 3), *(int(number) for number in re.findall(r"\.(\d+)", name)))


def convert_imagedream(table: Mapping[str, Tensor], base: Path, encoder: Path, out: Path, unet: Mapping[str, Any] = UNET) -> None:
    """Writes the tensors of an original checkpoint as a folder, under the authors' names as published folders have them.

    base: the folder of the model that it was made from, as for MVDream. encoder: a folder with CLIP's image encoder, ViT-H/14.
    Raises GuidanceError if the checkpoint does not fit.
    """
    from safetensors.torch import save_file
    from transformers import CLIPVisionModel

    tensors = {name: value for name, value in table.items() if name.startswith(PREFIX)}
    try:
        from_prompted(tensors, unet)  # so that a wrong file is refused now, and not when a run starts
        seen = Files(encoder.parent, None).network(CLIPVisionModel, encoder.name)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        why = " ".join(str(error).split())
        raise GuidanceError(f"the checkpoint does not hold a whole ImageDream that was made from {base} ({why})") from None
    (out / "unet").mkdir(parents=True)
    plain = {name.removeprefix(PREFIX): value.clone().contiguous() for name, value in tensors.items()}
    save_file(plain, out / "unet" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    settings = json.dumps({"_class_name": ORIGINAL, **unet}, indent=2) + "\n"
    (out / "unet" / "config.json").write_text(settings, encoding="utf-8")
    seen.save_pretrained(out / "image_encoder")
    copy_base(base, out, image_encoder=["transformers", "CLIPVisionModel"])
