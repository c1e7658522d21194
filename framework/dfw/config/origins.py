"""Records where each value of a configuration was written: file and line, or a command-line override. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml  # type: ignore[import-untyped]

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
        return ".".join((*self.stage, *path))

    def prefix(self, path: KeyPath) -> str:
        """Returns the beginning of a message about `path`, e.g. `configs/x.yaml:4: geometry.radius: `."""
        origin, dotted = self.where(path), self.dotted(path)
        return "".join(f"{part}: " for part in (origin, dotted) if part)


def lines_of(node: yaml.Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Yields (path, line counted from 1) of every key and list item below a YAML node. The root is at the first line."""
    if not path:
        yield (), node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                here = (*path, str(key.value))
                yield here, key.start_mark.line + 1
                yield from lines_of(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = (*path, str(index))
            yield here, item.start_mark.line + 1
            yield from lines_of(item, here)
