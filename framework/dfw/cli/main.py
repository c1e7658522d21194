"""The command `dfw`: finds the verb, imports its module, and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 crash, 2 usage or configuration, 3 plugin or model missing or broken, 4 diverged, 130 interrupted (143 by
SIGTERM, 129 by SIGHUP). No torch until a verb needs it. `DFW_TRACEBACK=1` shows where an error comes from.
A process that follows another one (`dfw.ranks`) prints nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click
import rich_click

from dfw import __version__
from dfw.cli.output import accept_any_text, is_of_output, mute, say
from dfw.errors import DfwError, PluginError, ProcessError
from dfw.ranks.environment import follows
from dfw.text import bounded, printable

VERBS = (
    "run",
    "sweep",
    "runs",
    "evaluate",
    "compare",
    "view",
    "render",
    "export",
    "sample",
    "guidance",
    "models",
    "config",
    "plugins",
    "doctor",
)
"""Built-in verbs, in the order of the help; each is `dfw.cli.<verb>:command`."""


class VerbGroup(rich_click.RichGroup):
    """Built-in verbs from their modules, and those that plugins add; plugins are read only for a verb that is not built in."""

    _plugins_read = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists built-in verbs first, then those of plugins."""
        self._read_plugins()
        return [*VERBS, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the verb's command, or None."""
        if cmd_name in VERBS:
            command: click.Command = import_module(f"dfw.cli.{cmd_name}").command
            return command
        self._read_plugins()
        return self.commands.get(cmd_name)

    def _read_plugins(self) -> None:
        from dfw.plugins.listeners import load_listeners

        if not self._plugins_read:
            self._plugins_read = True
            listeners = load_listeners()
            listeners.warn()
            listeners.register_commands(self)


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dfw")
def cli() -> None:
    """Text-to-3D you can take apart: any diffusion model as a loss on any differentiable scene."""


class _Stderr(logging.Handler):
    """Writes to the standard error stream that there is now: a plugin may close it, and the fence opens it again."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record."""
        say(self.format(record), err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (the process's own by default) and returns the exit code."""
    # Before torch loads: OpenMP threads that spin while they wait make a step ten times slower on a machine with other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if follows():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch warns of each connection that ends
    accept_any_text()
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("dfw")
    logger.addHandler(handler)
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        if sys.stdout is not None:  # the shell's >&- leaves none
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe went away: `dfw config show ... | head`
        mute()
        return 1
    except OSError as error:
        mute()
        with contextlib.suppress(OSError):
            say(f"error: cannot write the output: {error.strerror}; make room, or write it elsewhere", err=True)
        return DfwError.exit_code
    finally:
        logger.removeHandler(handler)


def _run(arguments: list[str]) -> int:
    """Runs a verb and tells what it raises. Raises OSError only where standard output cannot be written."""
    try:
        code = cli.main(arguments, prog_name="dfw", standalone_mode=False, obj=arguments)
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt) as error:
        pressed = error.__context__ or error  # click makes an Abort of what a signal raised
        notes = getattr(pressed, "__notes__", [])
        run = getattr(pressed, "folder", None)  # of dfw.runs.signals.Interrupted, and of dfw.cli.run
        if not follows():
            say(" ".join(["interrupted", *notes[:1]]) + (f"; to continue: dfw run --resume {run}" if run else ""), err=True)
        return 128 + getattr(pressed, "number", 2)
    except click.ClickException as error:
        if not follows():
            _plain(error, arguments).show()
        return error.exit_code
    except Exception as error:
        if is_of_output(error):
            raise
        return _tell(error)


def _plain(error: click.ClickException, arguments: list[str]) -> click.ClickException:
    """Returns a usage error without control characters. One about an option that is a setting says how to write the setting."""
    message = bounded(printable(error.format_message()), lines=6)
    if not isinstance(error, click.UsageError):
        return click.ClickException(message)
    if isinstance(error, click.NoSuchOption) and error.ctx and any(one.name == "overrides" for one in error.ctx.command.params):
        from dfw.cli.settings_options import as_setting

        setting = as_setting(error.option_name, arguments)
        message = printable(error.message) + setting if setting else message
    return click.UsageError(message, error.ctx)


def _tell(error: Exception) -> int:
    """Prints what went wrong: one sentence, or the traceback of a crash of dfw itself. Returns the exit code."""
    unreadable = _unreadable_package(error)
    known = PluginError(unreadable) if unreadable else error
    if follows() and isinstance(known, DfwError) and not isinstance(known, ProcessError):
        return known.exit_code  # the process that leads has met the same, and says it
    if not isinstance(known, DfwError) or os.environ.get("DFW_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    if not isinstance(known, DfwError):
        return 1
    say(f"error: {bounded(str(known))}", err=True)
    return known.exit_code


def _unreadable_package(error: BaseException | None) -> str:
    """Returns the sentence for an error of a library that could not read the entry points of some package; else nothing."""
    from dfw.plugins.discovery import unreadable

    while error is not None:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(module.startswith(("importlib.metadata", "importlib_metadata")) for module in modules):
            return next(unreadable(), "")
        error = error.__cause__
    return ""
