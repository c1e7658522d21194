"""Checks the files that a run's options name before a model loads."""

from __future__ import annotations

from dfw.compose import Composition
from dfw.config.origins import Provenance
from dfw.errors import ConfigError
from dfw.plugins.fence import plugin_code


def check_files(composition: Composition, provenance: Provenance) -> None:
    """Lets the options of every part look at the files they name. Raises ConfigError, with the file or override at fault."""
    for part in composition.parts():
        try:
            with plugin_code(part.who, "failed to check its files"):
                part.config.check_files()
        except ConfigError as error:
            field, colon, text = str(error).partition(": ")
            known = bool(colon) and field in type(part.config).model_fields
            where, said = ((*part.path, field), text) if known else (part.path, str(error))
            raise ConfigError(f"{provenance.prefix(where)}{said}") from error
