"""The file of a folder that names its store. Imports no torch."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from dfw.atomic import write_whole, writing
from dfw.errors import CheckpointError, ConfigError
from dfw.runs.seal import sealed_json, unsealed_json
from dfw.storage.place import checked_url

LINK = "store.json"
"""File that names the store of a sweep's or run's folder, and tells this folder from its copies on other machines."""


def store_of(folder: Path) -> str:
    """Returns the URL of the folder's store; empty where it has none. Raises CheckpointError."""
    return _link(folder).get("url", "")


def identity_of(folder: Path) -> str:
    """Returns what tells a folder with a store from those on other machines."""
    return _link(folder).get("folder", "")


def _link(folder: Path) -> Mapping[str, str]:
    path = folder / LINK
    try:
        return unsealed_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); remove it, and name the store again with --store") from error


def link(folder: Path, url: str, identity: str = "") -> None:
    """Notes the store of a folder, and what tells the folder from others. Raises ConfigError where it has another store."""
    url, before = checked_url(url), store_of(folder)
    if before and before != url:
        raise ConfigError(f"--store {url}: the store of {folder} is {before}; name that one, or work in another folder")
    if not before:
        with writing(folder / LINK, ConfigError, otherwise="name a folder that you may write to"):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / LINK, sealed_json({"url": url, "folder": identity or secrets.token_hex(8)}))
