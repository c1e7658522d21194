"""Checksums inside the files of a run that are read back, so that no damaged number passes for a good one."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KEY = "digest"
_RUN = "run"
OTHER = "it belongs to another run than config.yaml"
_MARK = "# sha256:"


def digest(data: bytes) -> str:
    """Returns the SHA-256 of `data`, as text."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, as text. Raises OSError."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def sealed_json(value: Mapping[str, Any], run: str = "") -> bytes:
    """Writes a mapping as JSON that ends with the run it belongs to, where that is given, and the digest of its content."""
    plain = json.loads(json.dumps(value))  # as a reader gets it: tuples are lists, and keys are text
    plain |= {_RUN: run} if run else {}
    return (json.dumps(plain | {_KEY: _content(plain)}, indent=2, ensure_ascii=False) + "\n").encode()


def unsealed_json(data: bytes, run: str | None = None) -> dict[str, Any]:
    """Reads what `sealed_json` wrote, without the digest and, if `run` is given, without the run.

    Raises ValueError if the content is another, or of another `run`; an empty one stands for any.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(value, dict) or value.pop(_KEY, None) != _content(value):
        raise ValueError("its checksum differs")
    if run is not None and value.pop(_RUN, run) != run and run:
        raise ValueError(OTHER)
    return value


def _content(value: Mapping[str, Any]) -> str:
    return digest(json.dumps(value, sort_keys=True).encode())


def sealed_text(text: str) -> str:
    """Adds a last line, a comment in YAML, with the digest of the text above it."""
    return f"{text}{_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def seal_of(data: bytes) -> str:
    """Returns the digest of a text that `sealed_text` closed, or nothing if the text is another now."""
    above, mark, found = data.rpartition(_MARK.encode())
    wanted = hashlib.sha256(above).hexdigest()
    return f"sha256:{wanted}" if mark and found == f"{wanted}\n".encode() else ""


def sealed_line(row: Mapping[str, Any], run: str = "") -> str:
    """Writes a mapping as one line of JSON that ends with a short name of its run and its CRC-32.

    Numbers that are not finite become null.
    """
    text = json.dumps(finite(row) | ({_RUN: _short(run)} if run else {}), allow_nan=False)
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'


def unsealed_line(line: bytes, run: str = "") -> dict[str, Any]:
    """Reads what `sealed_line` wrote; null becomes NaN. Raises ValueError if the line is another now, or of another `run`."""
    above, _, found = line.rpartition(b', "crc32": "')
    text = above + b"}"
    if found != f'{zlib.crc32(text):08x}"}}'.encode():
        raise ValueError("its checksum differs")
    row: dict[str, Any] = _with_nan(json.loads(text))
    if row.pop(_RUN, _short(run)) != _short(run) and run:
        raise ValueError(OTHER)
    return row


def _short(run: str) -> str:
    """Returns 32 of the digest's bits: enough to tell runs that lie side by side apart."""
    return run.rpartition(":")[2][:8]


def finite(value: Any) -> Any:
    """Returns plain values with None for each number that is not finite: JSON has no word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def _with_nan(value: Any) -> Any:
    if value is None:
        return math.nan
    return {key: _with_nan(one) for key, one in value.items()} if isinstance(value, dict) else value
