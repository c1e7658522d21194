"""Low-rank weights and vectors of new words for tiny models, saved by diffusers' and peft's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

TARGETS = {"denoiser": ["to_q", "to_k", "to_v", "to_out.0"], "encoder": ["q_proj", "k_proj", "v_proj", "out_proj"]}


def save_lora(pipeline: Any, folder: Path, seed: int, encoders: Sequence[str] = ("text_encoder",), rank: int = 2) -> Path:
    """Saves random low-rank weights for the denoiser and some text encoders of `pipeline`. It keeps its adapter."""
    layers: dict[str, Any] = {}
    stream = torch.Generator().manual_seed(seed)
    denoiser = "unet" if hasattr(pipeline, "unet") else "transformer"
    for name in (denoiser, *encoders):
        network = getattr(pipeline, name)
        kind = "denoiser" if name == denoiser else "encoder"
        network.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS[kind]), adapter_name=f"seed{seed}")
        table = get_peft_model_state_dict(network, adapter_name=f"seed{seed}")
        drawn = {key: 0.3 * torch.randn(value.shape, generator=stream) for key, value in sorted(table.items())}
        layers[f"{name}_lora_layers"] = drawn if kind == "denoiser" else convert_state_dict_to_diffusers(drawn)
    type(pipeline).save_lora_weights(str(folder), **layers)
    return folder / "pytorch_lora_weights.safetensors"


def as_kohya(path: Path, to: Path) -> Path:
    """Writes the same weights with the names and the alphas that kohya's trainer writes."""
    written: dict[str, torch.Tensor] = {}
    for key, value in load_file(path).items():
        part, _, layer = key.partition(".")
        for end, kohyas in ((".lora_A.weight", "down"), (".lora_B.weight", "up")):
            layer = layer.replace(f".lora_linear_layer.{kohyas}.weight", end)
            if layer.endswith(end):
                stem = layer.removesuffix(end).removeprefix("text_model.").replace(".", "_")
                name = f"lora_unet_{stem}" if part == "unet" else f"lora_te_text_model_{stem}"
                written[f"{name}.lora_{kohyas}.weight"] = value
                written[f"{name}.alpha"] = torch.tensor(float(min(value.shape)))
    save_file(written, to)
    return to


def pipeline_from(folder: Path, name: str = "StableDiffusionPipeline", **options: Any) -> Any:
    """Loads diffusers' own pipeline, in float32."""
    return getattr(diffusers, name).from_pretrained(str(folder), **options)
