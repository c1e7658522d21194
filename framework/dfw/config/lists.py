"""Text files with a value in each line, such as lists of prompts. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from dfw.config.load import shipped_directory
from dfw.errors import ConfigError


def lines_of(name: str, presets: Path | None) -> list[str]:
    """Returns the lines of a file, or of NAME.txt in the folder `presets`, without empty ones and those that begin with `#`.

    Raises ValueError that says why it cannot be read, and what could be.
    """
    known = {} if presets is None else {one.stem: one for one in sorted(presets.glob("*.txt"))}
    path = Path(name).expanduser()
    path = known[name] if name in known and not path.is_file() else path
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # editors of Windows write a mark first
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        what = "; ".join(["give a text file with a value in each line", *(f"or @{one}" for one in known)])
        raise ValueError(f"cannot read {path}: {reason}; {what}") from None
    values = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not values:
        raise ValueError(f"{path} holds no values; write one in each line")
    return values


def prompt_list(name: str) -> tuple[str, ...]:
    """Returns the prompts of a text file with one in each line, or of a list that ships with dfw: `@embedded`.

    None stands there twice. Raises ConfigError for a file that cannot be read.
    """
    try:
        return tuple(dict.fromkeys(lines_of(name.removeprefix("@"), shipped_directory() / "prompts")))
    except ValueError as error:
        raise ConfigError(f"prompts: {error}") from None
