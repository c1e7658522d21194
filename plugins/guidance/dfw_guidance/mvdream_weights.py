"""Reads the weights of multi-view U-Nets: diffusers' own class, and the names that MVDream's authors gave the same tensors.

    python -m dfw_guidance.mvdream_weights sd-v2.1-base-4view.pt path/to/stable-diffusion-2-1-base OUT

makes a folder in diffusers' layout of the authors' checkpoint. Text encoder, autoencoder and words come from the folder of the
model that it was made from: MVDream's training left them as they were. The checkpoint is a pickle. Only tensors are read from it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dfw_guidance.across_views import POSE
from dfw_guidance.damage import read_table
from dfw_guidance.files import Files
from dfw_guidance.layouts import MVDREAM

ORIGINAL = "MultiViewUNetModel"
"""The authors' class. Folders of published conversions name it, and hold the tensors under its names."""
PIPELINE = "MVDreamPipeline"
SIDE = 32
"""Side of the latents that the published models work at: pictures of 256 pixels."""
_PREFIX = "model.diffusion_model."
_POSES = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": POSE}
"""What diffusers' configuration says of a U-Net that reads poses."""


def load_scene_unet(files: Files) -> Any:
    """Loads the U-Net of a multi-view model. Raises ValueError for one that reads no poses of cameras."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    table = read_table(files.folder / "unet" / "config.json")
    if table.get("_class_name") == ORIGINAL:
        parts = [path for name, path in files.weights(MVDREAM).items() if name.startswith("unet/")]
        return from_original({name: value for path in parts for name, value in load_file(path).items()}, translated(table))
    wrong = [f"{name} is {table.get(name)}, not {value}" for name, value in _POSES.items() if table.get(name) != value]
    if wrong:
        raise ValueError(
            f"its U-Net reads no poses of cameras ({'; '.join(wrong)}): it is a model of single pictures, for "
            "guidance.type=stable-diffusion"
        )
    return files.network(UNet2DConditionModel, "unet")


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
            "attention_head_dim": [
                count // int(table["num_head_channels"]) for count in channels
            ],  # it means the number of heads
            "cross_attention_dim": table["context_dim"],
            "transformer_layers_per_block": table["transformer_depth"],
            "use_linear_projection": True,
        }
    except KeyError as missing:
        raise ValueError(f"unet/config.json of a {ORIGINAL} lacks {missing}") from None


def from_original(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Any:
    """Makes diffusers' U-Net of tensors under the authors' names. `config`: diffusers', of the same U-Net without poses.

    Raises ValueError if tensors are missing or do not fit.
    """
    from diffusers import UNet2DConditionModel

    whole = any(name.startswith(_PREFIX) for name in tensors)  # with an autoencoder and a text encoder
    named = {name if whole else _PREFIX + name: value for name, value in tensors.items()}
    # diffusers reads a class embedding under the names of SD 2.1 unCLIP, and the poses' network has the same two layers
    named = {name.replace(".camera_embed.", ".label_emb.0."): value for name, value in named.items()}
    if f"{_PREFIX}label_emb.0.0.weight" not in named:
        raise ValueError("its U-Net reads no poses of cameras: it has no tensor camera_embed.0.weight")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({**config, **_POSES}), encoding="utf-8")
        try:
            unet: Any = UNet2DConditionModel.from_single_file(named, config=folder, local_files_only=True)
        except NotImplementedError:  # see `single_file.SingleFile.network`
            raise ValueError("unet lacks tensors, the file does not hold the whole network; fetch it again") from None
    return unet


def convert(checkpoint: Path, base: Path, out: Path) -> None:
    """Writes `out`, a folder in diffusers' layout, from the authors' `checkpoint` and the folder `base` of the model beneath it.

    Raises ValueError if the checkpoint does not fit, and FileExistsError if `out` exists.
    """
    import torch

    if out.exists():
        raise FileExistsError(f"{out} exists")
    tensors = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    unet = from_original(tensors, {**read_table(base / "unet" / "config.json"), "sample_size": SIDE})
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    unet.save_pretrained(str(part / "unet"))
    for name in (*MVDREAM.weights, *MVDREAM.tokenizers, "scheduler"):
        if name != "unet":
            shutil.copytree(base / name, part / name)
    index = {**read_table(base / "model_index.json"), "_class_name": PIPELINE}
    (part / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    part.rename(out)


def main(arguments: Sequence[str]) -> None:
    """Converts a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the authors' .pt file")
    parser.add_argument("base", type=Path, help="folder of the model that it was made from, in diffusers' layout")
    parser.add_argument("out", type=Path, help="folder to write")
    asked = parser.parse_args(arguments)
    try:
        convert(asked.checkpoint, asked.base, asked.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
