"""Adds to a model what somebody trained for it: low-rank weights (LoRA) and the vectors of new words (textual inversion).

diffusers' own pipelines read the files. The low-rank weights are then merged into the model's. So it stays an ordinary frozen
network: as fast as before, and free for the adapters that losses train.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors import SafetensorError

from dfw import path_or_name
from dfw_guidance.aliases import settled_file

log = logging.getLogger("dfw.guidance")

LORA_FILES = ("pytorch_lora_weights.safetensors",)
"""Name that diffusers gives such a file in a repository."""
INVERSION_FILES = ("learned_embeds.safetensors",)
"""Name that diffusers gives such a file in a repository."""
_ENCODERS = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
"""Name of the vectors in a file for two text encoders -> the encoder and its tokenizer. A file for one holds one tensor."""


class Addition(BaseModel):
    """A file that was trained for a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str
    """A .safetensors file, a folder that holds one, or on the hub `owner/name` or `owner/name/FILE.safetensors`."""

    @field_validator("path", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return path_or_name(value, ())

    @field_validator("path")
    @classmethod
    def _settled(cls, value: str) -> str:
        return settled_file(value)


class Lora(Addition):
    """Low-rank weights (Hu et al. 2022), in the format of diffusers, peft or kohya."""

    scale: float = 1.0
    """Factor of their contribution, as diffusers' `set_adapters` takes it. 0 gives the plain model."""


class TextualInversion(Addition):
    """The vectors of a new word (Gal et al. 2022), in the format of diffusers or of the web UI."""

    token: str | None = Field(default=None, pattern=r"^\S+$")
    """The word that prompts write; by default the one in the file, and the file's name if there is none."""


def pipeline_of(name: str, parts: Mapping[str, Any]) -> Any:
    """Returns diffusers' pipeline `name` around the loaded `parts`; what a model does not hold is None."""
    import diffusers  # its pipelines take a second to import

    kind = getattr(diffusers, name)
    wanted = {key: one.default for key, one in inspect.signature(kind.__init__).parameters.items() if key != "self"}
    given = {key: parts.get(key) for key, default in wanted.items() if key in parts or default is inspect.Parameter.empty}
    return kind(**given | {key: False for key in ("requires_safety_checker", "add_watermarker") if key in wanted})


def add_lora(pipeline: Any, path: Path, scale: float) -> None:
    """Merges the low-rank weights of a file into the networks of `pipeline`, which must be in float32.

    Raises ValueError if they belong to another model.
    """
    options = {"weight_name": path.name, "use_safetensors": True, "local_files_only": True}
    if "unet" in pipeline.components:
        options["unet_config"] = pipeline.unet.config
    found = pipeline.lora_state_dict(str(path.parent), **options)
    table = found[0] if isinstance(found, tuple) else found
    if any("dora_scale" in key for key in safetensors.torch.load_file(path)):
        raise ValueError("it is a DoRA, which diffusers does not read; train or choose a plain LoRA")
    parts = sorted({key.split(".")[0] for key in table})
    wanted = sum(key.endswith(("lora_A.weight", "down.weight")) for key in table)
    for part in parts:
        if part.startswith("text_encoder") and not hasattr(pipeline, part):
            raise ValueError(f"it changes {part}, which this model does not have: it was made for another model")
        if part.startswith("text_encoder") and getattr(pipeline, part) is None:
            raise ValueError(f"it changes {part}, and dfw keeps that in memory only while it reads; choose one for the denoiser")
    options.pop("unet_config", None)
    with torch.random.fork_rng(devices=[]):  # peft draws initial values, which the file's replace
        try:
            pipeline.load_lora_weights(str(path.parent), adapter_name="lora", **options)
        except RuntimeError as error:
            raise ValueError(f"it was made for another model: {_first_mismatch(error)}") from None
        except ValueError as error:
            if "Target modules" not in str(error):
                raise
            raise ValueError(f"it was made for another model: this one has no layer such as {min(table)!r}") from None
    networks = {name: part for name in pipeline._lora_loadable_modules if (part := getattr(pipeline, name, None)) is not None}
    count = sum("lora" in getattr(module, "lora_A", ()) for part in networks.values() for module in part.modules())
    if not count:
        raise ValueError(f"it was made for another model: this one has no layer such as {min(table)!r}")
    if count < wanted:
        log.warning("guidance: %s: %d of %d low-rank layers are not of this model and are left out", path, wanted - count, wanted)
    pipeline.fuse_lora(components=list(networks), lora_scale=scale, safe_fusing=True)
    pipeline.unload_lora_weights()


def _first_mismatch(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
    return lines[0].rstrip(".") if lines else " ".join(str(error).split())


def add_inversion(pipeline: Any, path: Path, token: str | None) -> str:
    """Gives the text encoders of `pipeline` the vectors of a new word. Returns the word.

    Raises ValueError if they belong to another model, or if the model knows the word.
    """
    table = safetensors.torch.load_file(path)
    encoders = {key: names for key, names in _ENCODERS.items() if getattr(pipeline, names[0], None) is not None}
    named = next(iter(table)) if len(table) == 1 else None
    word = word_of(path, token)
    if len(encoders) == 1 and named is not None:
        table = {"clip_l": table[named]}
    if set(table) != set(encoders):
        held = ", ".join(sorted(table)[:4])
        what = "one tensor" if len(encoders) == 1 else "the two tensors clip_l and clip_g"
        raise ValueError(f"it holds {held}, and this model needs {what}: it was made for another model")
    for key, (encoder, tokenizer) in encoders.items():
        network, words = getattr(pipeline, encoder), getattr(pipeline, tokenizer)
        width, known = network.get_input_embeddings().embedding_dim, words.get_vocab()
        if table[key].ndim not in (1, 2) or table[key].shape[-1] != width:
            raise ValueError(
                f"its vectors have shape {tuple(table[key].shape)}, and the {encoder} of this model reads vectors of {width} "
                "numbers: it was made for another model"
            )
        if word in known or f"{word}_1" in known:
            raise ValueError(f"this model knows the token {word!r} already; write another one: token: <my-word>")
        with torch.random.fork_rng(devices=[]):  # transformers draws values for the new rows, which the file's replace
            pipeline.load_textual_inversion(table[key], token=word, text_encoder=network, tokenizer=words)
    return word


def word_of(path: Path, token: str | None) -> str:
    """Returns the word that stands for a textual inversion: `token`, the one that the file names, or the file's own name."""
    if token is not None:
        return token
    with safetensors.safe_open(path, "pt") as file:
        keys = list(file.keys())
    return path.stem if len(keys) > 1 or keys[0] in ("emb_params", *_ENCODERS) else str(keys[0])


def tokens_of(entries: Sequence[TextualInversion]) -> tuple[str, ...] | None:
    """Returns the new words of a configuration. None if one is in a file that is not on this machine, or cannot be read."""
    try:
        return tuple(word_of(Path(entry.path), entry.token) for entry in entries)
    except (OSError, SafetensorError):  # a place on the hub, a folder, a damaged file: loading says what
        return None


def spelled_out(texts: Sequence[str], tokenizer: Any) -> list[str]:
    """Returns the texts with each new word of several vectors written as that many tokens, as diffusers' pipelines do."""
    from diffusers.loaders import TextualInversionLoaderMixin  # type: ignore[attr-defined]

    return [TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer) for text in texts]


def without_tokens(text: str, tokens: Sequence[str]) -> str:
    """Returns the text without new words: what is left must be in the model's own vocabulary."""
    for token in tokens:
        text = text.replace(token, " ")
    return text
