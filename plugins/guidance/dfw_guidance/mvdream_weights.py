"""Reads the weights of multi-view U-Nets: diffusers' own class, and the names that MVDream's authors gave the same tensors."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dfw import GuidanceError
from dfw_guidance.across_views import POSE
from dfw_guidance.damage import read_table
from dfw_guidance.files import Files
from dfw_guidance.layouts import MVDREAM

ORIGINAL = "MultiViewUNetModel"
"""The authors' class. Folders of published conversions name it, and hold the tensors under its names."""
PIPELINE = "MVDreamPipeline"
SIDE = 32
"""Side of the latents that the published models work at: pictures of 256 pixels."""
PREFIX = "model.diffusion_model."
"""Start of the names that a U-Net's tensors have in an original checkpoint."""
CAMERA = f"{PREFIX}camera_embed.0.weight"
"""A tensor that only checkpoints of multi-view models have."""
_POSES = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": POSE}
"""What diffusers' configuration says of a U-Net that reads poses."""


def load_scene_unet(files: Files) -> Any:
    """Loads the U-Net of a multi-view model. Raises ValueError for one that reads no poses of cameras."""
    from diffusers import UNet2DConditionModel

    table = read_table(files.folder / "unet" / "config.json")
    if table.get("_class_name") == ORIGINAL:
        return from_original(original_tensors(files), translated(table))
    wrong = [f"{name} is {table.get(name)}, not {value}" for name, value in _POSES.items() if table.get(name) != value]
    if wrong:
        raise ValueError(
            f"its U-Net reads no poses of cameras ({'; '.join(wrong)}): it is a model of single pictures, for "
            "guidance.type=stable-diffusion"
        )
    return files.network(UNet2DConditionModel, "unet")


def original_tensors(files: Files) -> dict[str, Tensor]:
    """Reads the tensors of a U-Net that a folder holds under the authors' names, as in their checkpoint."""
    from safetensors.torch import load_file

    parts = [path for name, path in files.weights(MVDREAM).items() if name.startswith("unet/")]
    return {PREFIX + name: value for path in parts for name, value in load_file(path).items()}


def translated(table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns diffusers' configuration for the one of the authors' class. Raises ValueError if a field is missing."""
    try:
        channels = [int(table["model_channels"]) * factor for factor in table["channel_mult"]]
        attends = [2**level in table["attention_resolutions"] for level in range(len(channels))]
        return {
            "sample_size": SIDE,
            "in_channels": table["in_channels"],
            "out_channels": table["out_channels"],
            "block_out_channels": channels,
            "layers_per_block": table["num_res_blocks"],
            "down_block_types": ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends],
            "up_block_types": ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)],
            "attention_head_dim": [count // int(table["num_head_channels"]) for count in channels],  # so it names their number
            "cross_attention_dim": table["context_dim"],
            "transformer_layers_per_block": table["transformer_depth"],
            "use_linear_projection": True,
        }
    except KeyError as missing:
        raise ValueError(f"unet/config.json of a {ORIGINAL} lacks {missing}") from None


def from_original(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Any:
    """Makes diffusers' U-Net of tensors under the names of the authors' checkpoint. `config`: diffusers', without poses.

    Raises ValueError if tensors are missing or do not fit.
    """
    from diffusers import UNet2DConditionModel

    if CAMERA not in tensors:
        raise ValueError("its U-Net reads no poses of cameras: it has no tensor camera_embed.0.weight")
    # diffusers reads a class embedding under the names of SD 2.1 unCLIP, and the poses' network has the same two layers
    named = {name.replace(".camera_embed.", ".label_emb.0."): value for name, value in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({**config, **_POSES}), encoding="utf-8")
        try:
            return UNet2DConditionModel.from_single_file(named, config=folder, local_files_only=True)
        except NotImplementedError:  # see `single_file.SingleFile.network`
            raise ValueError("unet lacks tensors, the file does not hold the whole network; fetch it again") from None


def convert_mvdream(table: Mapping[str, Tensor], base: Path, out: Path) -> None:
    """Writes the tensors of an original checkpoint as a folder.

    base: the folder of the model that it was made from. Its text encoder, autoencoder and words are taken, as MVDream's training
    left them as they were. Raises GuidanceError if the checkpoint does not fit the base.
    """
    try:
        unet = from_original(table, {**read_table(base / "unet" / "config.json"), "sample_size": SIDE})
    except (ValueError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        raise GuidanceError(f"the checkpoint does not hold a whole MVDream that was made from {base} ({why})") from None
    unet.save_pretrained(out / "unet")
    copy_base(base, out)


def copy_base(base: Path, out: Path, **index: Any) -> None:
    """Copies everything but the U-Net of the model in `base`. `index`: further entries of the model's index."""
    for name in (*MVDREAM.weights, *MVDREAM.tokenizers, "scheduler"):
        if name != "unet":
            shutil.copytree(base / name, out / name)
    table = {**read_table(base / "model_index.json"), "_class_name": PIPELINE, **index}
    (out / "model_index.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
