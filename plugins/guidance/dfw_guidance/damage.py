"""Says what is wrong with a model's file before a library tries to read it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of the files that torch.save writes: a zip archive, or a bare pickle of protocol 2 to 5."""
LARGEST_NUMBER = 1_000_000
"""Largest integer of a configuration. The largest honest one is a vocabulary, of about 250,000."""
MOST_LAYERS = 1_000
"""Largest integer whose name speaks of layers or blocks: the library makes them one by one."""


def damage(path: Path) -> str | None:
    """Returns what is wrong with a file and what to do, as the end of a sentence that starts with its name, or None.

    Reads the head of weights and of words, and the whole of a table of settings.
    """
    if not path.is_file():
        return "is missing"
    with path.open("rb") as file:
        head = file.read(512)
    start = head.lstrip().lower()
    for disguised, what in (
        (not start, "is empty; fetch it again"),
        (start.startswith(b"version https://git-lfs"), "is a git-lfs pointer; run `git lfs pull` in its repository"),
        (start.startswith((b"<!doctype", b"<html")), "is a web page; fetch the file itself"),
        (head.startswith(_PICKLES), "is a pickle, and a pickle can run code; dfw reads only safetensors"),
    ):
        if disguised:
            return what
    if path.suffix == ".safetensors":
        return _damaged_weights(path)
    return _damaged_table(path) if path.stem.endswith(("config", "index")) else None


def _damaged_weights(path: Path) -> str | None:
    try:
        with safe_open(path, "numpy"):  # reads the header alone, and compares it with the length of the file
            return None
    except (SafetensorError, OSError) as error:
        return f"is damaged or cut off at {path.stat().st_size} bytes ({error}); fetch it again"


def _damaged_table(path: Path) -> str | None:
    try:
        return _outsized(read_table(path))
    except ValueError as error:
        return str(error).removeprefix(f"{path.name} ")


def _outsized(value: Any, name: str = "") -> str | None:
    """Returns the first number in a configuration that would take all memory or never end, as the end of a sentence."""
    if isinstance(value, Mapping):
        parts = [_outsized(item, str(key)) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [_outsized(item, name) for item in value]
    else:
        most = MOST_LAYERS if "layer" in name or ("block" in name and "channels" not in name) else LARGEST_NUMBER
        large = isinstance(value, int) and abs(value) > most and name != "model_max_length"  # transformers writes 10^30
        parts = [f"says {name}: {value}, and the most that can be meant is {most}; fetch it again" if large else None]
    return next((part for part in parts if part), None)


def read_table(path: Path) -> dict[str, Any]:
    """Reads a table of settings from JSON. Raises ValueError that names the file if it holds anything else."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON ({error}); fetch it again") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} holds {json.dumps(table)[:40]} instead of a table {{...}} of settings; fetch it again")
    return table
