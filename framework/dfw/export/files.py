"""Writes a textured mesh in several formats. Each file appears whole or not at all, and overwrites none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfw.atomic import claim, write_whole
from dfw.errors import ExportError
from dfw.interfaces.checks import check_files
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.mesh import TexturedMesh

STEM = "object"


def write_files(
    textured: TexturedMesh, directory: Path, exporters: Sequence[Exporter], title: str, stem: str = STEM
) -> dict[str, Path]:
    """Writes `textured` with each exporter. Returns the main suffix without its dot -> path.

    All files share the first free stem of object, object-2, ... `title` names the object inside them. Raises ExportError if the
    directory cannot be written. An exporter that fails leaves no file of its own.
    """
    paths: dict[str, Path] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        suffixes = list(dict.fromkeys(suffix for exporter in exporters for suffix in exporter.suffixes))
        free = claim(directory, stem, suffixes)
        unwritten = {directory / f"{free}{suffix}" for suffix in suffixes}
        try:
            for exporter in exporters:
                contents = exporter.files(textured, free, title)
                check_files(exporter, exporter.suffixes, contents)
                for suffix, data in contents.items():
                    write_whole(directory / f"{free}{suffix}", data)
                    unwritten.discard(directory / f"{free}{suffix}")
                paths[exporter.suffixes[0].lstrip(".")] = directory / f"{free}{exporter.suffixes[0]}"
        finally:
            for path in unwritten:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"cannot write the mesh in {directory}: {error.strerror or error}; choose another output folder"
        ) from error
    return paths
