"""Records where each value of a configuration was written: file and line, or a command-line override. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dfw.text import printable, shortened

KeyPath = tuple[str, ...]
"""Keys from the configuration's root, e.g. ("losses", "sds", "weight")."""


@dataclass(frozen=True)
class Provenance:
    """Configuration path -> origin: `configs/x.yaml:4`, or `override 'geometry.radius=2'`."""

    origins: Mapping[KeyPath, str] = field(default_factory=dict)
    stage: KeyPath = ()
    """Where a stage's configuration stands in its file, e.g. ("stages", "refine"): messages write it before each path."""

    def where(self, path: KeyPath) -> str:
        """Returns the origin of `path`, or of the nearest parent that has one. Returns "" if none is known."""
        for length in range(len(path), -1, -1):
            origin = self.origins.get(path[:length])
            if origin:
                return origin
        return ""

    def dotted(self, path: KeyPath) -> str:
        """Returns `geometry.radius`, or `stages.refine.geometry.radius` in a stage."""
        return printable(".".join(shortened(key) for key in (*self.stage, *path)))

    def prefix(self, path: KeyPath) -> str:
        """Returns the beginning of a message about `path`, e.g. `configs/x.yaml:4: geometry.radius: `."""
        origin, dotted = self.where(path), self.dotted(path)
        return "".join(f"{part}: " for part in (origin, dotted) if part)
