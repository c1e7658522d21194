"""Whether the files of a model are whole: checksums, shards and heads of weights. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

SUMS = "SHA256SUMS"
"""File with a checksum and a name in each line, as the program sha256sum writes it."""


def faults(folder: Path) -> Iterator[str]:
    """Gives a sentence for each file of a model that is missing, cut off or another one.

    Compared are the files of SHA256SUMS with their checksums, and large files of the hub's cache with theirs, which their names
    are there. Every .safetensors file must be as long as its head says, and every shard that an index names must be there.
    """
    yield from _sums(folder)
    for path in sorted(folder.rglob("*.json")):
        if ".safetensors.index" in path.name:
            yield from _shards(folder, path)
    for path in sorted(folder.rglob("*.safetensors")):
        fault = _weights(path)
        if fault:
            yield f"{path.relative_to(folder)} {fault}"


def weight_files(folder: Path) -> list[Path]:
    """Returns the weight files in a folder."""
    return sorted(folder.rglob("*.safetensors"))


def _sums(folder: Path) -> Iterator[str]:
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        value, _, name = line.partition("  ")
        path = folder / name
        if not name or not path.is_file():
            yield f"{name or SUMS} is missing, and {SUMS} names it"
        elif _digest(path) != value:
            yield f"{name} is not as it was when {SUMS} was written: its checksum differs"


def _shards(folder: Path, index: Path) -> Iterator[str]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        yield f"{index.relative_to(folder)} cannot be read as an index of shards; fetch it again"
        return
    for name in names:
        if not (index.parent / name).is_file():
            yield f"{(index.parent / name).relative_to(folder)} is missing, and {index.name} names it"


def _weights(path: Path) -> str:
    try:
        with safe_open(path, "numpy"):  # reads the head, and compares it with the length of the file
            pass
    except (SafetensorError, OSError) as error:
        return f"is damaged or cut off ({' '.join(str(error).split())}); fetch it again"
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name) and _digest(real) != real.name:
        return "is damaged: its checksum is not the one that the hub has; delete it, and fetch it again"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
