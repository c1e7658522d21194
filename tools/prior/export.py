"""Writes the model in diffusers' own format."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path

from captions import describe
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from model import build_tokenizer
from transformers import CLIPTextModel, CLIPTokenizer

from dfw_guidance.checksums import write_sums


def export(
    folder: Path,
    vae: AutoencoderKL,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> None:
    """Writes a half-precision pipeline to ``folder``. It appears there complete or not at all."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(),
        text_encoder=copy.deepcopy(text).half(),
        tokenizer=tokenizer,
        unet=copy.deepcopy(unet).half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(part), safe_serialization=True)
    build_tokenizer(part / "tokenizer")  # also in the older pair of files, which every release of transformers reads
    (part / "vocabulary.json").write_text(json.dumps(describe(), indent=1) + "\n", encoding="utf-8")
    settle(part, folder)


def settle(part: Path, folder: Path) -> None:
    """Makes the finished folder ``part`` the same on every machine, writes its checksums, and gives it the name ``folder``."""
    for config in part.rglob("config.json"):
        kept = json.loads(config.read_text(encoding="utf-8"))
        kept.pop("_name_or_path", None)  # where it was loaded from
        if "dtype" in kept:
            kept["dtype"] = "float32"  # as diffusers loads the other networks: transformers would load this one in half precision
        config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    write_sums(part)
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(part, folder)
