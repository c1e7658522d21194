"""What the command line prints: in any encoding, and without what a terminal would obey."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback

import click

from dfw.text import printable


def say(text: object, nl: bool = True, err: bool = False) -> None:
    """Prints a line. Raises OSError where it cannot be written."""
    click.echo(printable(str(text)), nl=nl, err=err)


def accept_any_text() -> None:
    """Lets both streams write characters that their encoding lacks (cp1252, C) as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_of_output(error: BaseException) -> bool:
    """Returns whether `error` says that the output cannot be written: a full disk, or a pipe that nobody reads any more."""
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("click", "rich", "rich_click")


def mute() -> None:
    """Sends standard output, and what the interpreter still flushes to it at its end, to the null device."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
