"""The files that a model's folder must hold, for each diffusers pipeline that a guidance reads. Imports no torch.

Every such folder has a `model_index.json` that names the pipeline and its parts, and one sub-folder for each part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

NETWORK = "diffusion_pytorch_model"
"""Stem of the weights of diffusers' own networks."""
ENCODER = "model"
"""Stem of the weights of transformers' text encoders."""


@dataclass(frozen=True)
class Layout:
    """The parts of one kind of model that are read."""

    name: str
    """Name of the kind, for messages."""
    weights: Mapping[str, str]
    """Sub-folder ("" for the folder itself) -> stem of its weight files."""
    tokenizers: tuple[str, ...] = ()
    """Sub-folders of tokenizers."""
    scheduler: bool = True
    """Whether a noise schedule is read."""
    optional: frozenset[str] = frozenset()
    """Sub-folders that a model may lack if its `model_index.json` says null for them."""

    def without(self, *parts: str) -> Layout:
        """Returns the layout without some sub-folders."""
        weights = {part: stem for part, stem in self.weights.items() if part not in parts}
        return replace(self, weights=weights, tokenizers=tuple(part for part in self.tokenizers if part not in parts))

    def only(self, *parts: str) -> Layout:
        """Returns the layout with only some sub-folders."""
        others = {*self.weights, *self.tokenizers} - set(parts)
        return replace(self.without(*others), scheduler=False)

    def patterns(self, variant: str | None) -> list[str]:
        """Returns the patterns of the files to download, as the hub's client takes them."""
        suffix = f".{variant}" if variant else ""
        names = ["model_index.json", "vocabulary.json", *(["scheduler/*.json"] if self.scheduler else [])]
        names += [f"{part}/*" for part in self.tokenizers]
        for part, stem in self.weights.items():
            head = f"{part}/" if part else ""
            names.append(f"{head}config.json")
            names += [
                head + stem + end
                for end in (f"{suffix}.safetensors", f"{suffix}-*.safetensors", f".safetensors.index{suffix}.json")
            ]
        return names

    def missing(self, folder: Path, variant: str | None) -> list[str]:
        """Returns the files that will be read and that `folder` lacks, relative to it."""
        absent = self.optional & absent_parts(folder)
        names = ["scheduler/scheduler_config.json"] if self.scheduler else []
        names += [f"{part}/tokenizer_config.json" for part in self.tokenizers if part not in absent]
        names += [str(Path(part) / "config.json") for part in self.weights if part not in absent]
        missing = [name for name in names if not (folder / name).is_file()]
        for part in self.tokenizers:
            if part not in absent:
                missing += _missing_words(folder, part)
        suffix = f".{variant}" if variant else ""
        for part, stem in self.weights.items():
            whole = folder / part / f"{stem}{suffix}.safetensors"
            shards = any(whole.parent.glob(f"{stem}{suffix}-*.safetensors"))
            if part not in absent and not whole.is_file() and not shards:
                missing.append(str(whole.relative_to(folder)))
        return missing


def _missing_words(folder: Path, part: str) -> list[str]:
    """Returns the tokenizer files that `part` lacks. It needs tokenizer.json, or T5's spiece.model, or CLIP's two files."""
    if any((folder / part / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        return []
    return [f"{part}/{name}" for name in ("vocab.json", "merges.txt") if not (folder / part / name).is_file()]


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the table in `model_index.json`. Returns an empty one if the file does not exist."""
    path = folder / "model_index.json"
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return table


def absent_parts(folder: Path) -> frozenset[str]:
    """Returns the parts that the model's index declares absent."""
    return frozenset(part for part, value in read_index(folder).items() if isinstance(value, list) and value[:1] == [None])


GUIDANCE_OF = {
    "StableDiffusionPipeline": "stable-diffusion",
    "StableDiffusionXLPipeline": "stable-diffusion-xl",
    "IFPipeline": "deep-floyd",
    "StableDiffusion3Pipeline": "flow",
    "FluxPipeline": "flow",
}
"""Pipeline named in `model_index.json` -> the guidance that reads it."""

STABLE_DIFFUSION = Layout(
    "Stable Diffusion",
    {"text_encoder": ENCODER, "unet": NETWORK, "vae": NETWORK},
    ("tokenizer",),
)
STABLE_DIFFUSION_XL = Layout(
    "Stable Diffusion XL",
    {"text_encoder": ENCODER, "text_encoder_2": ENCODER, "unet": NETWORK, "vae": NETWORK},
    ("tokenizer", "tokenizer_2"),
)
DEEP_FLOYD = Layout("DeepFloyd IF, stage I", {"text_encoder": ENCODER, "unet": NETWORK}, ("tokenizer",))
STABLE_DIFFUSION_3 = Layout(
    "Stable Diffusion 3",
    {
        "text_encoder": ENCODER,
        "text_encoder_2": ENCODER,
        "text_encoder_3": ENCODER,
        "transformer": NETWORK,
        "vae": NETWORK,
    },
    ("tokenizer", "tokenizer_2", "tokenizer_3"),
    optional=frozenset({"text_encoder_3", "tokenizer_3"}),
)
FLUX = Layout(
    "Flux",
    {"text_encoder": ENCODER, "text_encoder_2": ENCODER, "transformer": NETWORK, "vae": NETWORK},
    ("tokenizer", "tokenizer_2"),
)
CONTROLNET = Layout("ControlNet", {"": NETWORK}, scheduler=False)
INDEX = Layout("model", {}, scheduler=False)
"""Only `model_index.json`, which names the pipeline."""
