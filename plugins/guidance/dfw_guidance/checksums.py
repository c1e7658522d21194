"""Checksums of models. The one that ships with dfw is compared with its own: safetensors has none."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

SUMS = "SHA256SUMS"
"""The file that holds them, as the program sha256sum writes it."""

WHOLE = 64 * 2**20
"""Largest file that `fingerprint` reads whole, bytes: a tenth of a second."""
_BLOCKS, _BLOCK = 256, 4096


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


def fingerprint(path: Path) -> str:
    """Returns what tells a file of weights from others without reading gigabytes: `sha256:...` or `sampled-sha256:...`.

    The hub's cache names a large file by its SHA-256. A file up to `WHOLE` is read. Of a larger one the length and 256 blocks of
    4 KiB are read, the first at the start (its header) and the others at equal distances: those of a fine-tune differ.
    """
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        return f"sha256:{real.name}"
    size = real.stat().st_size
    if size <= WHOLE:
        return f"sha256:{digest(real)}"
    found = hashlib.sha256(str(size).encode())
    with real.open("rb") as file:
        for index in range(_BLOCKS):
            file.seek(index * (size - _BLOCK) // (_BLOCKS - 1))
            found.update(file.read(_BLOCK))
    return f"sampled-sha256:{found.hexdigest()}"
