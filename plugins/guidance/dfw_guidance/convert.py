"""Makes a folder in diffusers' layout, with safetensors alone, from files that dfw does not read: run it once, where they are.

python -m dfw_guidance.convert zero123-xl.ckpt zero123-xl        # an original checkpoint of Zero-1-to-3 or Stable Zero123
python -m dfw_guidance.convert sd-v2.1-base-4view.pt mvdream     # an original checkpoint of MVDream
python -m dfw_guidance.convert sd-v2.1-base-4view-ipmv.pt imagedream    # one of ImageDream
python -m dfw_guidance.convert downloaded-folder safe-folder     # a folder whose weights are pickles (.bin)

A pickle can run code. These are read without running any: only tensors and plain containers are made, and everything else in the
file becomes an empty table.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfw import DfwError, GuidanceError
from dfw_guidance.hub import find_model
from dfw_guidance.layouts import IP_ADAPTER, STABLE_DIFFUSION

ENCODER = Path("models", "image_encoder")
"""Where IP-Adapter's folder has CLIP's image encoder."""
_MADE = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
}
"""What a pickle of weights may make, as (module, name); torch itself makes the storages."""


class _Unread(dict[Any, Any]):
    """What stands for everything else in a pickle: settings, callbacks, optimisers."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Keeps nothing."""


class _Tensors:
    """In the place of the module `pickle`: makes tensors and containers, and calls nothing that a file names."""

    class Unpickler(pickle.Unpickler):
        """See `_Tensors`."""

        def find_class(self, module: str, name: str) -> Any:
            """Returns what a name in the file stands for."""
            return super().find_class(module, name) if (module, name) in _MADE else _Unread

    @classmethod
    def load(cls, file: Any, **options: Any) -> Any:
        """Reads a file of the old format."""
        return cls.Unpickler(file, **options).load()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a .safetensors file or of a pickle, by name. Raises GuidanceError if it is neither."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        zipped = _is_zip(path)
        if zipped and _is_program(path):
            raise ValueError("it is a TorchScript program, which would run")
        found = torch.load(path, map_location="cpu", pickle_module=_Tensors, weights_only=False, mmap=zipped)
    except Exception as error:  # a pickle can hold anything, and fail in any way
        raise GuidanceError(f"{path} does not hold weights ({type(error).__name__}: {error}); fetch it again") from None
    inner = found.get("state_dict", found) if isinstance(found, Mapping) else {}
    table = {str(name): value.detach() for name, value in inner.items() if isinstance(value, Tensor)}
    if not table:
        raise GuidanceError(f"{path} holds no weights; name the checkpoint of a model")
    return table


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _is_program(path: Path) -> bool:
    """Returns whether `torch.load` would run TorchScript. It asks torch's own reader: another might see other entries."""
    return "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records()


VISION = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "conv1.": "vision_model.embeddings.patch_embedding.",
    "ln_pre.": "vision_model.pre_layrnorm.",
    "ln_post.": "vision_model.post_layernorm.",
    "transformer.resblocks.": "vision_model.encoder.layers.",
}
"""Start of a tensor's name in OpenAI's CLIP -> in transformers'."""
LAYERS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn": "self_attn", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
"""Layer of a block in OpenAI's CLIP -> in transformers'."""


def clip_vision(table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the image encoder of OpenAI's CLIP for transformers' CLIPVisionModelWithProjection. Raises ValueError."""
    renamed = {}
    for name, value in table.items():
        if name == "proj":
            renamed["visual_projection.weight"] = value.T
            continue
        start = next((start for start in VISION if name.startswith(start)), None)
        if start is None:
            raise ValueError(f"its image encoder has an unknown tensor {name!r}")
        new = VISION[start] + name.removeprefix(start)
        for theirs, ours in LAYERS.items():
            new = re.sub(rf"\.{re.escape(theirs)}\.", f".{ours}.", new)
        if "in_proj_" in new:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                renamed[new.replace("in_proj_", f"{part}_proj.")] = rows
        else:
            renamed[new] = value
    return renamed


UNET: dict[str, Any] = {"sample_size": 32, "in_channels": 8, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE: dict[str, Any] = {
    "sample_size": 256,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
CLIP: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
"""Sizes of Zero-1-to-3, its XL version and Stable Zero123: sd-objaverse-finetune-c_concat-256.yaml, and CLIP ViT-L/14."""


def convert_zero123(
    table: Mapping[str, Tensor],
    out: Path,
    unet: Mapping[str, Any] = UNET,
    vae: Mapping[str, Any] = VAE,
    clip: Mapping[str, Any] = CLIP,
) -> None:
    """Writes the tensors of an original checkpoint as a folder. It takes the averaged weights of the U-Net if there are any.

    Raises GuidanceError if the checkpoint is another model's, or lacks tensors.
    """
    import diffusers
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from dfw_guidance.pose_projection import CCProjection

    library: Any = diffusers  # whose constructors have no types
    if "cc_projection.weight" not in table:
        raise GuidanceError("the checkpoint is not one of Zero-1-to-3: it has no cc_projection")
    weight = table["cc_projection.weight"]
    projection = CCProjection(weight.shape[1], weight.shape[0])
    with torch.device("meta"):
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**clip, hidden_act="quick_gelu"))
        empty = {"unet": library.UNet2DConditionModel(**unet), "vae": library.AutoencoderKL(**vae)}
    head = "cond_stage_model.model.visual."
    try:
        projection.load_state_dict({f"projection.{one}": table[f"cc_projection.{one}"].float() for one in ("weight", "bias")})
        seen = clip_vision({name.removeprefix(head): value.float() for name, value in table.items() if name.startswith(head)})
        encoder.load_state_dict(seen, strict=False, assign=True)
        lost = [name for name, value in encoder.named_parameters() if value.is_meta]
        if lost:
            raise ValueError(f"its image encoder lacks {len(lost)} tensors, the first is {lost[0]!r}")
        averaged = {name: table.get(_averaged(name), value) for name, value in table.items() if name.startswith(_UNET)}
        for part, tensors in {"unet": averaged, "vae": {n: v for n, v in table.items() if n.startswith(_VAE)}}.items():
            empty[part].save_config(out / part)
            kind = type(empty[part])
            kind.from_single_file(
                {name: value.float() for name, value in tensors.items()}, config=str(out), subfolder=part, local_files_only=True
            ).save_pretrained(out / part)
    except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        why = " ".join(str(error).split())
        raise GuidanceError(f"the checkpoint does not hold a whole Zero-1-to-3 ({why}); fetch it again") from None
    encoder.save_pretrained(out / "image_encoder")
    projection.save_pretrained(out / "cc_projection")
    library.DDIMScheduler(**SCHEDULER).save_pretrained(out / "scheduler")
    index = json.dumps({"_class_name": "Zero1to3StableDiffusionPipeline"})
    (out / "model_index.json").write_text(index, encoding="utf-8")


_UNET, _VAE = "model.diffusion_model.", "first_stage_model."


def _averaged(name: str) -> str:
    """Returns the name that a tensor of the U-Net has among the averaged ones (LitEma)."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def convert_folder(folder: Path, out: Path) -> None:
    """Copies a folder in diffusers' layout, with every pickle of weights as safetensors."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts):
        place = out / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".bin":
            named = place.with_name(path.name.replace("pytorch_model", "model") if path.name[0] == "p" else path.name)
            tensors = {name: value.clone().contiguous() for name, value in read_weights(path).items()}
            save_file(tensors, named.with_suffix(".safetensors"), metadata={"format": "pt"})
        else:
            shutil.copyfile(path, place)


def convert_checkpoint(file: Path, out: Path, base: Path | None, encoder: Path | None) -> None:
    """Converts a checkpoint of a model that its tensors tell. Raises GuidanceError."""
    from dfw_guidance.imagedream_weights import RESAMPLER, convert_imagedream
    from dfw_guidance.mvdream_weights import CAMERA, convert_mvdream

    table = read_weights(file)
    if CAMERA in table:
        base = base or find_model("sd21-base", STABLE_DIFFUSION)
        if any(name.startswith(RESAMPLER) for name in table):
            convert_imagedream(table, base, encoder or find_model("ip-adapter", IP_ADAPTER, family="ip-adapter") / ENCODER, out)
        else:
            convert_mvdream(table, base, out)
    else:
        convert_zero123(table, out)


def convert(source: Path, out: Path, base: Path | None = None, encoder: Path | None = None) -> None:
    """Converts a checkpoint or a folder. Raises GuidanceError if it cannot, or if `out` is there.

    base: for MVDream and ImageDream, the folder of the model that it was made from; by default Stable Diffusion 2.1 base.
    encoder: for ImageDream, a folder with CLIP's image encoder, ViT-H/14; by default that of IP-Adapter. Both are on the hub.
    """
    if out.exists():
        raise GuidanceError(f"{out} is there already; name a folder that is not")
    if not source.exists():
        raise GuidanceError(f"there is no file or folder {source}")
    partly = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partly, ignore_errors=True)
    try:
        if source.is_dir():
            convert_folder(source, partly)
        else:
            convert_checkpoint(source, partly, base, encoder)
        partly.rename(out)
    except OSError as error:
        raise GuidanceError(
            f"{error.filename or out}: {error.strerror or error}; name files that are there, and a folder that you may write to"
        ) from None
    finally:
        shutil.rmtree(partly, ignore_errors=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m dfw_guidance.convert", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="a checkpoint (.ckpt, .safetensors), or a folder with .bin files")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument(
        "--base", type=Path, help="for MVDream and ImageDream: folder of the model that it was made from (default: sd21-base)"
    )
    parser.add_argument("--encoder", type=Path, help="for ImageDream: folder of CLIP's image encoder (default: IP-Adapter's)")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # diffusers speaks of what it leaves out of a checkpoint
    try:
        convert(asked.source, asked.out, asked.base, asked.encoder)
    except DfwError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(asked.out)


if __name__ == "__main__":
    main()
