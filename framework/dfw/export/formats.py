"""Finds the exporter that writes a file, by the ending of its name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

from dfw.compose import Composition
from dfw.errors import ExportError, PluginError
from dfw.interfaces.component import Component
from dfw.interfaces.exporter import Exporter
from dfw.plugins.parts import Part
from dfw.plugins.registry import registry

log = logging.getLogger("dfw.export")


def is_file(out: Path) -> bool:
    """Returns whether `out` names one file and not a folder: it has an ending, and no folder of that name exists."""
    return bool(out.suffix) and not out.is_dir()


def exporter_for(file: Path, composition: Composition) -> Exporter:
    """Returns an exporter for a file of this name: one of the configuration's formats, else an installed one with its defaults.

    Raises ExportError for an ending that is not the first one of any exporter, or that of several.
    """
    ending = file.suffix.lower()
    for path, part in composition.chosen.items():
        if path[0] == "export" and _main_ending(part.cls) == ending:
            return cast(Exporter, part.construct())
    offered: dict[str, list[str]] = {}
    for entry in registry().entries("exporter"):
        try:
            offered.setdefault(_main_ending(registry().load(entry)), []).append(entry.qualified)
        except PluginError as error:
            log.warning("%s", error)
    names = offered.pop(ending, [])
    others = ", ".join(sorted(filter(None, offered)))
    if len(names) > 1:
        raise ExportError(f"{file}: {' and '.join(names)} both write {ending}; choose with --formats, and give --out a folder")
    if not names:
        raise ExportError(f"{file}: no exporter writes {ending}, only {others}; a folder has no ending")
    return Part[Exporter](type=names[0]).build()


def _main_ending(exporter: type[Component]) -> str:
    return next(iter(getattr(exporter, "suffixes", None) or ()), "")
