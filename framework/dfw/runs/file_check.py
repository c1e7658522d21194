"""Checks the files that options name before a model loads."""

from __future__ import annotations

from dfw.compose import Composition
from dfw.config.origins import Provenance
from dfw.errors import ConfigError, DfwError
from dfw.interfaces.component import ComponentConfig
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chosen


class FileChecks:
    """Checks the files of runs. Equal options of several runs are checked once."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, str], DfwError | None] = {}

    def check(self, composition: Composition, provenance: Provenance) -> None:
        """Lets the options of every part look at the files they name. Raises ConfigError, with the file or override at fault."""
        for part in composition.parts():
            if type(part.config).check_files is ComponentConfig.check_files:
                continue
            key = type(part.config), repr(part.config)
            if key not in self._known:
                self._known[key] = _mistake(part)
            error = self._known[key]
            if isinstance(error, ConfigError):
                field, colon, text = str(error).partition(": ")
                known = bool(colon) and field in type(part.config).model_fields
                where, said = ((*part.path, field), text) if known else (part.path, str(error))
                raise ConfigError(f"{provenance.prefix(where)}{said}") from error
            if error is not None:
                raise error


def _mistake(part: Chosen) -> DfwError | None:
    try:
        with plugin_code(part.who, "failed to check its files"):
            part.config.check_files()
    except DfwError as error:
        return error
    return None
