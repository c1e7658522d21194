"""From the words of `dfw sweep --on` to a launcher at work. Imports no torch."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

from dfw.config.kinds import KINDS
from dfw.errors import DfwError
from dfw.interfaces.component import name_of
from dfw.interfaces.launcher import Launcher, RunOutcome, Sweep
from dfw.plugins.fence import plugin_code
from dfw.plugins.words import from_words


def launcher(words: str) -> Launcher:
    """Builds the launcher that `--on` names (`from_words`). Raises ConfigError and PluginError."""
    return cast(Launcher, from_words(KINDS["launcher"], words))


def outcomes(chosen: Launcher, sweep: Sweep) -> Generator[RunOutcome, None, None]:
    """Yields what a launcher yields. What it raises, except a DfwError, becomes a PluginError that names it."""
    with plugin_code(name_of(chosen), "failed to launch the runs", (DfwError, GeneratorExit)):
        yield from chosen.outcomes(sweep)
