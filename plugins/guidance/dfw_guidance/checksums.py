"""Checksums of the model that ships with dfw: safetensors has none, and one changed bit would go unnoticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"
"""The file that holds them, as the program sha256sum writes it."""


def write_sums(folder: Path) -> None:
    """Writes the checksums of all files in `folder` except its texts for readers (.md)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md" and path.name != SUMS)
    lines = [f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def changed_files(folder: Path) -> list[str]:
    """Returns the files that are not as `SHA256SUMS` of the folder says, or that are missing, or SHA256SUMS itself."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    sums = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    if not sums:
        return [SUMS]
    return [name for name, value in sums.items() if not (folder / name).is_file() or digest(folder / name) != value]


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
