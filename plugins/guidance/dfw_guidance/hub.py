"""Finds the folder of a model by its name, or raises an error that says what to do. Imports no torch.

The hub's own settings apply: HF_HOME (cache), HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfw import DfwError, GuidanceError, hub_refusal
from dfw_guidance.aliases import SHIPPED, WEIGHTS, candidates, hub_file
from dfw_guidance.checksums import changed_files, fingerprint
from dfw_guidance.damage import damage
from dfw_guidance.layouts import Layout, owner_of, read_index


def find_model(
    model: str,
    layout: Layout,
    revision: str | None = None,
    variant: str | None = None,
    family: str = "stable-diffusion",
    field: str = "guidance.model",
) -> Path:
    """Returns the folder that holds `model`, complete as `layout` says. Downloads what is missing.

    `model` is an alias of `family`, a folder or a hub id. Raises GuidanceError if no such model can be found, or if one of its
    files is damaged. The message names the configuration's `field`, the reason and the remedy.
    """
    try:
        places = candidates(model, family)
    except ValueError as error:
        raise GuidanceError(f"{field}: {error}") from None
    refused = []
    for place in places:
        if Path(place).is_absolute():
            return _checked(Path(place), layout, variant, family, field)
        try:
            from huggingface_hub import snapshot_download  # not needed for a folder of this machine

            folder = snapshot_download(place, revision=revision, allow_patterns=layout.patterns(variant))
            return _checked(Path(folder), layout, variant, family, field, place)
        except DfwError:
            raise
        except Exception as error:  # the hub's client also raises its transport's own classes, so no narrower list is complete
            refused.append(hub_refusal(place, revision, error))
    local = f"there is no folder {Path(model).absolute()}; " if model in places else ""
    raise GuidanceError(
        f"{field}: cannot get {model!r}: {local}{'; '.join(refused)}. A local folder in diffusers' layout works as well "
        f"({field}=path/to/folder), and guidance.type=stable-diffusion guidance.model=embedded needs no download"
    )


def model_facts(model: str, folder: Path, weights: Mapping[str, Path], variant: str | None) -> dict[str, Any]:
    """Returns what repeats the choice of a model: its name, folder, commit, variant, and a fingerprint of each weight file."""
    commit = folder.name if folder.parent.name == "snapshots" else None
    sums = {name: fingerprint(path) for name, path in weights.items()}
    return {"model": model, "folder": str(folder), "commit": commit, "variant": variant, "weights": sums}


def find_file(path: str, names: Sequence[str], field: str) -> Path:
    """Returns the safetensors file that `path` stands for, as `settled_file` left it. Downloads it if it is on the hub.

    names: what the file may be called in a repository. Raises GuidanceError that starts with the configuration's `field`.
    """
    repository, file = hub_file(path)
    if repository:
        found = _downloaded(repository, [file] if file else names, field)
    else:
        folder = Path(path)
        inside = sorted(folder.glob("*.safetensors")) if folder.is_dir() else [folder]
        if len(inside) != 1:
            held = ", ".join(one.name for one in inside) or "none"
            raise GuidanceError(f"{field}: {path!r} must hold one .safetensors file (it holds {held}); name the file itself")
        (found,) = inside
    fault = damage(found)
    if fault is None and found.suffix != ".safetensors":
        fault = "is not a .safetensors file, and dfw reads no other"
    if fault:
        raise GuidanceError(f"{field}: {str(found)!r} {fault}")
    return found


def _downloaded(repository: str, names: Sequence[str], field: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    refused = ""
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # as in find_model
            absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            reason = f"{repository} has no file {name}; write {repository}/FILE.safetensors"
            refused = reason if absent else hub_refusal(repository, None, error)
    raise GuidanceError(f"{field}: there is no file {Path(repository).absolute()}; {refused}")


def _checked(folder: Path, layout: Layout, variant: str | None, family: str, field: str, repository: str = "") -> Path:
    """Returns `folder` if every file that will be read is there and whole. Raises GuidanceError that names those that are not."""
    where = f"{field}: {repository!r} ({folder})" if repository else f"{field}: {str(folder)!r}"
    if not folder.is_dir():
        raise GuidanceError(f"{where} {_no_folder(folder, family)}")
    try:
        owner = owner_of(folder, family)
        if owner != family:
            pipeline = read_index(folder).get("_class_name")
            remedy = f"; write guidance.type={owner}" if field == "guidance.model" else f", and this wants a {layout.name}"
            raise GuidanceError(f"{where} is a {pipeline}{remedy}")
        missing, damaged = layout.missing(folder, variant), layout.damaged(folder, variant)
    except (ValueError, OSError) as error:
        raise GuidanceError(f"{where}: {error}") from None
    if missing:
        raise GuidanceError(
            f"{where} lacks {', '.join(missing)}: it is not a complete {layout.name} in diffusers' layout with safetensors "
            f"weights{_hint(layout.variants(folder), variant)}"
        )
    if folder in SHIPPED.values() and (changed := changed_files(folder)):
        raise GuidanceError(
            f"{where}: {', '.join(changed)} is not as it was shipped (its checksum differs); "
            "install dfw again: pip install --force-reinstall --no-deps dreamfw"
        )
    if damaged:
        raise GuidanceError(f"{where}: {'; '.join(damaged)}")
    return folder


def _no_folder(path: Path, family: str) -> str:
    """Returns why `path`, which is not a folder, is not a model, as the end of a sentence."""
    if not path.exists():
        return "is not there: no such folder"
    if path.suffix in WEIGHTS and path.suffix != ".safetensors":
        return f"is a pickle, and a pickle can run code; if you trust it, convert it once: {conversion(path, family)}"
    if path.suffix == ".safetensors":
        return f"is one file, and dfw reads folders in diffusers' layout here; convert it once: {conversion(path, family)}"
    return "is a file; a model is a folder in diffusers' layout"


_CLASSES = {
    "stable-diffusion-xl": "StableDiffusionXLPipeline",
    "flow": "StableDiffusion3Pipeline",
    "controlnet": "ControlNetModel",
}
"""Family -> the class of diffusers that converts one file; for the others it is StableDiffusionPipeline."""


def conversion(path: Path, family: str) -> str:
    """Returns the command that makes a folder of one file, for a message."""
    if family in ("zero123", "mvdream", "imagedream"):
        return f"python -m dfw_guidance.convert '{path}' '{path.with_suffix('')}'"
    kind = _CLASSES.get(family, "StableDiffusionPipeline")
    return (
        f"python -c \"from diffusers import {kind} as P; P.from_single_file('{path}').save_pretrained('{path.with_suffix('')}')\""
    )


def _hint(variants: list[str], variant: str | None) -> str:
    """Returns which variant the folder has instead, as the end of a sentence."""
    others = [name for name in variants if name != (variant or "")]
    if not others and variant:
        return f"; check that it has a variant {variant!r}"
    if not others:
        return "; if it holds pickles (.bin), fetch all of it and run python -m dfw_guidance.convert FOLDER NEW-FOLDER"
    remedy = " or ".join(f"guidance.variant={name or 'null'}" for name in others)
    return f"; its weights are of another variant: write {remedy}"
