"""Exceptions for everything that a user can get wrong. Each carries one clear sentence and an exit code.

A message says what is wrong, where (config path, file, plugin and version) and what to write instead. The command line prints it
without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

from typing import ClassVar


class DfwError(Exception):
    """Base of all errors that the user can fix. The exit code is 2 (usage or configuration) unless a subclass changes it."""

    exit_code: ClassVar[int] = 2


class ConfigError(DfwError):
    """A configuration is wrong: it has an unknown key, a value out of range, or parts that do not fit. Exit code 2."""


class PluginError(DfwError):
    """A component or plugin is missing, broken, ambiguous, or crashes while it works. Exit code 3."""

    exit_code: ClassVar[int] = 3


class ContractError(PluginError):
    """A component broke its interface: it returned a wrong shape or dtype, or no gradient. Exit code 2."""

    exit_code: ClassVar[int] = 2


class GuidanceError(DfwError):
    """A guidance model is missing or gated, or cannot do what a run needs. Exit code 3."""

    exit_code: ClassVar[int] = 3


class PromptError(DfwError):
    """A prompt has words that the chosen model does not know. Exit code 2."""


class ExportError(DfwError):
    """There is nothing to export, or a file cannot be written. Exit code 2."""


class CheckpointError(DfwError):
    """A checkpoint or run directory is missing, incomplete or made by another configuration. Exit code 2."""


class DivergedError(DfwError):
    """The run has diverged: it has a NaN, or its scene is empty or fills every pixel. Exit code 4."""

    exit_code: ClassVar[int] = 4


class ProcessError(DfwError):
    """Another process of a run on several devices is missing, or does something else than this one. Exit code 1."""

    exit_code: ClassVar[int] = 1


_LONGEST = 400  # about three lines of a terminal; some libraries print whole tensors or lists of files
"""Longest message of another library that is shown, in characters."""


def one_line(error: BaseException) -> str:
    """Returns the class and message of an exception on one line, shortened if it is long."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
