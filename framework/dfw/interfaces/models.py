"""What a component or program says of models whose weights it can load. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """A published or shipped model that an option of a component or program can name."""

    name: str
    """What the option calls it: a short name, or the hub id itself."""
    places: tuple[str, ...] = ()
    """Hub repositories, `owner/name`, that hold it, to be tried in order."""
    folder: Path | None = None
    """Where it ships with a package; it has no `places` then."""
    files: tuple[str, ...] = ("*.json", "*.safetensors", "*.txt")
    """Patterns of the files that are read, as the hub's client takes them."""
    gigabytes: float | None = None
    """Weights in half precision, by the published number of parameters. A download may be larger."""
    licence: str = ""
    """As its model card says; empty: see the card."""
