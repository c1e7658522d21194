"""The fence around code of plugins: errors name their owner, and the process stays as it was. Imports no torch."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dfw.errors import DfwError, PluginError, one_line
from dfw.plugins.interrupts import Interrupts
from dfw.plugins.surroundings import kept

log = logging.getLogger("dfw.plugins")

Passing = tuple[type[BaseException], ...]
"""Exceptions that a fence lets through as they are."""
OWN: Passing = (DfwError,)
"""Those that components raise on purpose."""

PATIENCE = 15.0  # seconds: an import of torch and diffusers takes up to ten on a busy machine


@contextmanager
def plugin_code(who: str, doing: str, passing: Passing = OWN, report: Callable[[str], None] | None = None) -> Iterator[None]:
    """Turns what the code inside raises into a PluginError: `who doing: ValueError: ...`; `passing` pass.

    What it changes of the process is put back, and a warning, or `report`, says so. A copy of the process that it makes
    (`os.fork`) ends when it comes out of the fence. Ctrl-C passes, and names `who`.
    """
    process = os.getpid()
    say = report or (lambda changes: log.warning("%s changed %s; put back", who, changes))
    with kept(say), renaming(lambda error: f"{who} {doing}: {one_line(error)}", passing, say, who):
        try:
            yield
        finally:
            end_copy(process, who)


@contextmanager
def renaming(
    sentence: Callable[[BaseException], str],
    passing: Passing = OWN,
    report: Callable[[str], None] = lambda changes: None,
    who: str = "",
) -> Iterator[None]:
    """Turns what the code inside raises into a PluginError with `sentence(error)`; where that is empty, it passes as it is.

    Ctrl-C passes, with a note that names `who`. A KeyboardInterrupt that no signal caused is an error like any other.
    `report` hears of signal handlers that were changed.
    """
    interrupts = Interrupts()
    try:
        with interrupts:
            yield
    except BaseException as error:  # SystemExit too: a plugin must not end the program
        pressed = isinstance(error, KeyboardInterrupt) and interrupts.came
        text = "" if pressed or isinstance(error, passing) else sentence(error)
        if text:
            raise PluginError(text) from error
        if pressed and who:
            error.add_note(f"while waiting for {who}")
        raise
    finally:
        if interrupts.changed:
            report(" and ".join(interrupts.changed))


def end_copy(process: int, who: str) -> None:
    """Ends this process, with a message that names `who`, if it is not `process` but a copy of it that `who` has made."""
    if os.getpid() != process:
        message = f"ERROR: {who} has copied this process (os.fork); the copy, process {os.getpid()}, ends here\n"
        os.write(2, message.encode())
        os._exit(1)  # neither flushes what the original will write, nor runs its clean-up


@contextmanager
def waiting(who: str) -> Iterator[None]:
    """Says once that the program waits for `who`, if the code inside takes longer than PATIENCE."""
    timer = threading.Timer(PATIENCE, log.warning, ("waiting for %s", who))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
