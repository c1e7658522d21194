"""Paths in a configuration: relative to the file that names them, `~` for the home directory, absolute once checked."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_VARIABLE = re.compile(r"\$(?=[A-Za-z_{])")


class Written(str):
    """Text from a file. A path in it is relative to that file's `folder`; other text is relative to the working directory."""

    folder: Path | None = None

    @staticmethod
    def within(value: Any, folder: Path) -> Any:
        """Returns plain values whose texts know their `folder`."""
        if isinstance(value, dict):
            return {key: Written.within(item, folder) for key, item in value.items()}
        if isinstance(value, list):
            return [Written.within(item, folder) for item in value]
        return Written._of(value, folder) if isinstance(value, str) else value

    @staticmethod
    def like(source: str, text: str) -> str:
        """Returns `text` with the folder of `source`, which it is made of."""
        return Written._of(text, source.folder) if isinstance(source, Written) else text

    @staticmethod
    def _of(text: str, folder: Path | None) -> Written:
        written = Written(text)
        written.folder = folder
        return written


def absolute(value: Any) -> Any:
    """Returns the path `value` as absolute text; what is not text as it is. Raises ValueError for text that is not a path."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    if not value:
        raise ValueError("an empty path; write . for the folder itself")
    if "\0" in value:
        raise ValueError("a path cannot hold the character \\0")
    if _VARIABLE.search(value):
        raise ValueError(f"{value!r}: variables of the environment are not filled in; write the path itself, or one with ~")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{value!r}: this machine knows no such home directory; write the path itself") from None
    folder = value.folder if isinstance(value, Written) else None
    return str((folder or Path.cwd()) / path)


def path_or_name(value: Any, names: Collection[str]) -> Any:
    """Returns `value` as `absolute` does if it is not one of `names` and a file or folder is there, or it can be no name.

    For the validator (mode "before") of a field that holds a path or a name, such as that of a model on a hub.
    """
    if not isinstance(value, str) or not value or value in names:
        return value
    found = absolute(value)
    return found if value.startswith(("~", "./", "../")) or exists(Path(found)) else str(value)


def exists(path: Path) -> bool:
    """Returns whether something is at `path`; False also where the text cannot be a path, or may not be looked at."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def shown(path: Path) -> str:
    """Returns the path as a user would write it: relative if it lies below the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


LocalPath = Annotated[str, BeforeValidator(absolute), WithJsonSchema({"type": "string", "format": "path"})]
"""Field of a Config that holds the path of a file or folder.

It may begin with `~`. A relative path is relative to the file that names it; one of an override, or of Python, to the working
directory. The checked value is absolute, so that a run can be opened from any directory.
"""
