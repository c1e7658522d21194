"""Everything a user can get wrong, as exceptions that carry one clear sentence and an exit code.

A message says what is wrong, where (config path, file, plugin and version) and what to write instead. The command line
prints it without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

from typing import ClassVar


class DfwError(Exception):
    """Base of all errors that are the user's to fix. Exit code 2 (usage or configuration) unless a subclass says otherwise."""

    exit_code: ClassVar[int] = 2


class ConfigError(DfwError):
    """A configuration is wrong: an unknown key, a value out of range, parts that do not fit. Exit code 2."""


class PluginError(DfwError):
    """A component or plugin is missing, broken, ambiguous, or crashes while it works. Exit code 3."""

    exit_code: ClassVar[int] = 3


class ContractError(PluginError):
    """What a component gave back is not what its interface promises: a shape, a dtype, a missing gradient. Exit code 2."""

    exit_code: ClassVar[int] = 2


class GuidanceError(DfwError):
    """A guidance model is missing, gated, or cannot do what is asked of it. Exit code 3."""

    exit_code: ClassVar[int] = 3


class PromptError(DfwError):
    """A prompt has words that the chosen model does not know. Exit code 2."""


class ExportError(DfwError):
    """There is nothing to export, or a file cannot be written. Exit code 2."""


class CheckpointError(DfwError):
    """A checkpoint or run directory is missing, incomplete or of another configuration. Exit code 2."""


class DivergedError(DfwError):
    """The optimisation left the road: a NaN, an empty scene or an exploded one. Exit code 4."""

    exit_code: ClassVar[int] = 4


_LONGEST = 400
"""Characters of a foreign message that are shown."""


def one_line(error: BaseException) -> str:
    """The class and message of an exception on one line, cut where it is long."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
