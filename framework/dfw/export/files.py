"""Writes a textured mesh in several formats. Each file appears whole or not at all, and overwrites none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfw.atomic import put_new, writing
from dfw.interfaces.checks import check_files
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.mesh import TexturedMesh

STEM = "object"


def write_files(
    textured: TexturedMesh, directory: Path, exporters: Sequence[Exporter], title: str, stem: str = STEM
) -> dict[str, Path]:
    """Writes `textured` with each exporter. Returns the main suffix without its dot -> path.

    All files share the first free stem of object, object-2, ... `title` names the object inside them. Raises ExportError if the
    directory cannot be written. If an exporter fails, the files of those before it are written all the same.
    """
    failures: list[Exception] = []

    def contents(free: str) -> dict[str, bytes]:
        made: dict[str, bytes] = {}
        failures.clear()
        for exporter in exporters:
            try:
                found = exporter.files(textured, free, title)
                check_files(exporter, exporter.suffixes, found)
            except Exception as error:
                failures.append(error)
                break
            made |= {suffix: found[suffix] for suffix in exporter.suffixes if suffix in found}
        return made

    with writing(f"the mesh in {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
        written = put_new(directory, stem, [one for exporter in exporters for one in exporter.suffixes], contents)
    if failures:
        raise failures[0]
    return {exporter.suffixes[0].lstrip("."): written[exporter.suffixes[0]] for exporter in exporters}
