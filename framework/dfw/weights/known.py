"""The models that installed components and programs name, and how to get them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfw.compose import Composition
from dfw.errors import ConfigError, GuidanceError, PluginError
from dfw.interfaces.models import Model
from dfw.plugins.discovery import MODELS, import_target, scan
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import found_in
from dfw.plugins.registry import Registry
from dfw.weights.hub import hub_refusal

log = logging.getLogger("dfw.weights")

CARD = ("README.md", "LICENSE*")
"""What is fetched besides the files that are read: what the model is, and what may be done with it."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Known:
    """A model, and what names it."""

    model: Model
    users: tuple[str, ...]
    """Components and programs, `guidance stable-diffusion` or `program acme.draw`, in the order of listings."""


def known_models(registry: Registry) -> list[Known]:
    """Returns every model that an installed component or program names, once. Warns of those that cannot be loaded.

    A component names them in `Component.models`. A program, such as a command of a package, has an entry point in the group
    `dfw.models`: a function that returns them.
    """
    found: dict[Model, list[str]] = {}
    for entry in [*registry.entries(), *scan().models()]:
        is_program = entry.kind == MODELS
        user = f"{'program' if is_program else entry.kind} {entry.name}"
        try:
            with plugin_code(f"{user} of {entry.provider}", "cannot say which models it names", (PluginError,)):
                name_models: Any = import_target(entry) if is_program else registry.load(entry).models
                models = tuple(name_models())
                for model in models:
                    if not isinstance(model, Model):
                        raise TypeError(f"it gives a {type(model).__name__} where a dfw.Model should be")
        except PluginError as error:
            log.warning("%s", error)
            continue
        for model in models:
            found.setdefault(model, []).append(user)
    return [Known(model, tuple(users)) for model, users in found.items()]


def named(name: str, known: Iterable[Known]) -> list[Model]:
    """Returns the models that `name` means: a short name or a repository of one. A hub id that nobody names is a model too."""
    found = [one.model for one in known if name == one.model.name or name in one.model.places]
    return found or ([Model(name, (name,))] if _HUB_ID.fullmatch(name) else [])


def models_of(composition: Composition) -> list[Model]:
    """Returns the models that the options of a run's components name."""
    found: dict[Model, None] = {}
    for part in composition.parts():
        names = part.cls.model_names(part.config)
        words = {text for _, text in found_in(part.config, str)} if names is None else set(names)
        for model in part.cls.models():
            if model.name in words or words & set(model.places):
                found[model] = None
    return list(found)


def check_models(stages: Mapping[str, Composition]) -> None:
    """Checks, before the first stage begins, that each model that a run names is here, or can be had from the hub.

    Raises GuidanceError that names all those that cannot. Where a run without stages lacks one model, the component that loads it
    says more.
    """
    users: dict[Model, list[str]] = {}
    for stage, composition in stages.items():
        for model in models_of(composition):
            users.setdefault(model, []).append(stage)
    lost: dict[str, list[str]] = {}
    for model, (stage, *_) in users.items():
        refused = _refused(model) if cached(model) is None else ""
        if refused:
            lost.setdefault(refused, []).append(f"{model.name} (stages.{stage})" if stage else model.name)
    count = sum(map(len, lost.values()))
    if count > 1 or (count and "" not in stages):
        said = "; ".join(f"{', '.join(names)}, because {why}" for why, names in lost.items())
        raise GuidanceError(
            f"this run needs {count} model{'s' * (count > 1)} that it cannot get: {said}. `dfw models fetch CONFIG` fetches "
            "all where there is a network. In the place of each name, a local folder in diffusers' layout works as well"
        )


def _refused(model: Model) -> str:
    """Says why none of a model's places gives its small files, which a run gets before the large ones. Empty: one does."""
    from huggingface_hub import snapshot_download

    refused: dict[str, None] = {}
    for place in model.places:
        try:
            snapshot_download(place, allow_patterns=[pattern for pattern in model.files if pattern.endswith(".json")])
        except Exception as error:  # as in `cached`
            refused[hub_refusal(place, None, error).replace(place, "the repository", 1)] = None
        else:
            return ""
    return ", and ".join(refused)


def cached(model: Model) -> Path | None:
    """Returns the folder of a model that is on this machine: shipped, or in the hub's cache. None where it is not."""
    if model.folder is not None:
        return model.folder if model.folder.is_dir() else None
    from huggingface_hub import snapshot_download

    for place in model.places:
        try:
            folder = Path(snapshot_download(place, allow_patterns=list(model.files), local_files_only=True))
        except Exception:  # the hub's client raises classes of its transport too, and all of them say that it is not there
            continue
        if any(folder.rglob("*.safetensors")):
            return folder
    return None


def size_of(folder: Path) -> float:
    """Returns the size of a model's files, gigabytes of 10^9 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def licence_of(model: Model, folder: Path | None) -> str:
    """Returns the licence that the model card in `folder` states, else what the component says; empty if nobody does."""
    card = None if folder is None else folder / "README.md"
    if card is not None and card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
        found = re.search(r"^license(?:_name)?:[ \t]*(\S+)\s*$", head, re.MULTILINE)
        if found and head.startswith("---"):
            return found[1]
    return model.licence


def fetch(model: Model, revision: str | None = None) -> Path:
    """Downloads what a model lacks, and returns its folder. Raises GuidanceError with one sentence where that cannot be done."""
    if model.folder is not None:
        return model.folder
    if not model.places:
        raise ConfigError(f"{model.name}: its component names no repository")
    from huggingface_hub import snapshot_download

    refused: list[str] = []
    for place in model.places:
        try:
            return Path(snapshot_download(place, revision=revision, allow_patterns=[*model.files, *CARD]))
        except Exception as error:  # as in `cached`
            refused.append(hub_refusal(place, revision, error))
    raise GuidanceError(f"cannot fetch {model.name}: {'; '.join(refused)}")


def choices(known: Sequence[Known]) -> str:
    """Returns the short names, for messages."""
    return ", ".join(dict.fromkeys(one.model.name for one in known))
