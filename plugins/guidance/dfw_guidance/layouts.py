"""The files that a model's folder must hold, for each diffusers pipeline that a guidance reads. Imports no torch.

Every such folder has a `model_index.json` that names the pipeline and its parts, and one sub-folder for each part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dfw_guidance.damage import damage, read_table

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
    instead: Mapping[str, str] = field(default_factory=dict)
    """Sub-folder -> another name that some publishers give it."""
    bare: bool = False
    """Whether only settings and words are read, and no weights."""

    def settings(self) -> Layout:
        """Returns the layout without weight files."""
        return replace(self, bare=True)

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
        for part, stem in (*self.weights.items(), *((other, self.weights[part]) for part, other in self.instead.items())):
            head = f"{part}/" if part else ""
            names.append(f"{head}config.json")
            if self.bare:
                continue
            names += [
                head + stem + end
                for end in (f"{suffix}.safetensors", f"{suffix}-*.safetensors", f".safetensors.index{suffix}.json")
            ]
        return names

    def _parts(self, folder: Path) -> dict[str, str]:
        """Returns `weights` with the names of sub-folders that `folder` has."""
        names = {part: other for part, other in self.instead.items() if (folder / other).is_dir()}
        return {names.get(part, part): stem for part, stem in self.weights.items()}

    def missing(self, folder: Path, variant: str | None) -> list[str]:
        """Returns the files that will be read and that `folder` lacks, relative to it."""
        return [name for name in self._files(folder, variant) if not (folder / name).is_file()]

    def damaged(self, folder: Path, variant: str | None) -> list[str]:
        """Returns a sentence about each file that will be read and that is damaged, or is not what its name says."""
        found = {name: damage(folder / name) for name in self._files(folder, variant)}
        return [f"{name} {what}" for name, what in found.items() if what]

    def weight_files(self, folder: Path, variant: str | None) -> list[str]:
        """Returns the weight files in `folder` that are read, relative to it."""
        return [name for name in self._files(folder, variant) if name.endswith(".safetensors") and (folder / name).is_file()]

    def variants(self, folder: Path) -> list[str]:
        """Returns the variants that `folder` has of its weights; "" is the one without a name."""
        names = [
            path.name.removeprefix(stem)
            for part, stem in self._parts(folder).items()
            for path in (folder / part).glob(f"{stem}*")
        ]
        whole = [name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors") and "-" not in name]
        sharded = [name.removesuffix(".json").partition(".index")[2] for name in names if name.endswith(".json")]
        return sorted({name.removeprefix(".") for name in whole + sharded})

    def _files(self, folder: Path, variant: str | None) -> list[str]:
        """Returns the files that will be read, relative to `folder`. Raises ValueError if an index of shards is wrong."""
        absent = self.optional & absent_parts(folder)
        parts = self._parts(folder)
        names = ["scheduler/scheduler_config.json"] if self.scheduler else []
        names += [f"{part}/tokenizer_config.json" for part in self.tokenizers if part not in absent]
        names += [str(Path(part) / "config.json") for part in parts if part not in absent]
        for part in self.tokenizers:
            names += [] if part in absent else _words(folder, part)
        for part, stem in parts.items():
            if part not in absent and not self.bare:
                names += _weights(folder, part, stem, f".{variant}" if variant else "")
        return names


def _weights(folder: Path, part: str, stem: str, suffix: str) -> list[str]:
    """Returns the weight files of `part`: the shards that its index names, or one file. Raises ValueError for a wrong index."""
    index = folder / part / f"{stem}.safetensors.index{suffix}.json"
    if not index.is_file():
        return [str(Path(part) / f"{stem}{suffix}.safetensors")]
    places = read_table(index).get("weight_map")
    shards = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    for name in shards:
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise ValueError(f"{part}/{index.name} names {name!r}, which is not a .safetensors file beside it")
    if not shards:
        raise ValueError(f"{part}/{index.name} names no files (weight_map)")
    return [str(Path(part) / name) for name in shards]


def _words(folder: Path, part: str) -> list[str]:
    """Returns the tokenizer files that `part` needs: tokenizer.json, or T5's spiece.model, or CLIP's two files."""
    whole = next((name for name in ("tokenizer.json", "spiece.model") if (folder / part / name).is_file()), None)
    return [f"{part}/{whole}"] if whole else [f"{part}/vocab.json", f"{part}/merges.txt"]


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the table in `model_index.json`. Returns an empty one if there is no such file. Raises ValueError if it is wrong."""
    path = folder / "model_index.json"
    return read_table(path) if path.is_file() else {}


def absent_parts(folder: Path) -> frozenset[str]:
    """Returns the parts that the model's index declares absent."""
    return frozenset(part for part, value in read_index(folder).items() if isinstance(value, list) and value[:1] == [None])


GUIDANCE_OF = {
    "StableDiffusionPipeline": "stable-diffusion",
    "StableDiffusionXLPipeline": "stable-diffusion-xl",
    "IFPipeline": "deep-floyd",
    "StableDiffusion3Pipeline": "flow",
    "FluxPipeline": "flow",
    "StableDiffusionInstructPix2PixPipeline": "instruct-pix2pix",
    "Zero1to3StableDiffusionPipeline": "zero123",
    "Zero123Pipeline": "zero123",
    "MVDreamPipeline": "mvdream",
}
"""Pipeline named in `model_index.json` -> the guidance that reads it."""


def owner_of(folder: Path, family: str) -> str:
    """Returns the guidance that reads the model in `folder`: `family` where its `model_index.json` does not say."""
    index = read_index(folder)
    owner = GUIDANCE_OF.get(str(index.get("_class_name")), family)
    named = index.get("image_encoder")
    # published folders of ImageDream name MVDream's pipeline; only the encoder of its picture tells them apart
    return "imagedream" if owner == "mvdream" and isinstance(named, list) and named[:1] != [None] else owner


STABLE_DIFFUSION = Layout(
    "Stable Diffusion",
    {"text_encoder": ENCODER, "unet": NETWORK, "vae": NETWORK},
    ("tokenizer",),
)
MVDREAM = replace(STABLE_DIFFUSION, name="MVDream")
IMAGEDREAM = replace(STABLE_DIFFUSION, name="ImageDream", weights={**STABLE_DIFFUSION.weights, "image_encoder": ENCODER})
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
ZERO123 = Layout(
    "Zero-1-to-3",
    {"unet": NETWORK, "vae": NETWORK, "image_encoder": ENCODER, "cc_projection": NETWORK},
    instead={"cc_projection": "clip_camera_projection"},
)
WONDER3D = Layout("Wonder3D", {"unet": NETWORK, "vae": NETWORK, "image_encoder": ENCODER})
CONTROLNET = Layout("ControlNet", {"": NETWORK}, scheduler=False)
IP_ADAPTER = Layout("IP-Adapter", {"models/image_encoder": ENCODER}, scheduler=False)
AUTOENCODER = Layout("small autoencoder", {"": NETWORK}, scheduler=False)
INDEX = Layout("model", {}, scheduler=False)
"""Only `model_index.json`, which names the pipeline."""
