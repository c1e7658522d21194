"""Checks the files that options name, and what a run starts from, before a model loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dfw.compose import Composition
from dfw.config.origins import Provenance
from dfw.errors import ConfigError, DfwError
from dfw.interfaces.component import ComponentConfig
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chosen


class FileChecks:
    """Checks the files of runs. What several runs name alike is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, str], DfwError | None] = {}
        self._sources: dict[Path, tuple[Composition, Path]] = {}

    def check(self, composition: Composition, provenance: Provenance) -> None:
        """Lets the options of every part look at the files they name. Raises ConfigError, with the file or override at fault."""
        for part in composition.parts():
            if type(part.config).check_files is ComponentConfig.check_files:
                continue
            error = self._mistake(part.config, partial(_let_check, part))
            if isinstance(error, ConfigError):
                field, colon, text = str(error).partition(": ")
                known = bool(colon) and field in type(part.config).model_fields
                where, said = ((*part.path, field), text) if known else (part.path, str(error))
                raise ConfigError(f"{provenance.prefix(where)}{said}") from error
            if error is not None:
                raise error

    def check_start(self, composition: Composition, provenance: Provenance) -> None:
        """Finds the run or the mesh file that a run names to start from, and reads it. Raises ConfigError."""
        from dfw.runs.start import find_start

        start = find_start(composition, {}, provenance, self._source)
        error = None if start is None else self._mistake(start.settings, start.check_files)
        if error is not None:
            raise error

    def _source(self, run: Path) -> tuple[Composition, Path]:
        from dfw.runs.start import open_source

        if run not in self._sources:
            self._sources[run] = open_source(run)
        return self._sources[run]

    def _mistake(self, settings: object, check: Callable[[], None]) -> DfwError | None:
        key = type(settings), repr(settings)
        if key not in self._known:
            try:
                check()
                self._known[key] = None
            except DfwError as error:
                self._known[key] = error
        return self._known[key]


def _let_check(part: Chosen) -> None:
    with plugin_code(part.who, "failed to check its files"):
        part.config.check_files()
