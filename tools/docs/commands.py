"""Makes `docs/commands.md`: the help of every built-in command.

python tools/docs/commands.py [--check]
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click
from pages import code, main, table

from dfw.cli.main import VERBS, cli

RANGES = (click.IntRange, click.FloatRange)
HEAD = """# Commands

`dfw COMMAND --help` prints the same. [Errors](errors.md) lists exit codes and messages. A plugin may add commands of its own.
"""


def pages() -> dict[str, str]:
    """Returns the page."""
    context = click.Context(cli, info_name="dfw")
    found = [(verb, cli.get_command(context, verb)) for verb in VERBS]
    sections = [part for verb, command in found if command is not None for part in sections_of(command, f"dfw {verb}", context)]
    return {"commands.md": "\n".join([HEAD, *sections])}


def sections_of(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yields the section of `command`, and those of its sub-commands."""
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    rows = ((code(option_usage(option, context)), default_of(option), help_of(option)) for option in options)
    lines = [f"## `{name}`", "", "```text", usage, "```", "", help_text, ""]
    yield "\n".join([*lines, *table(("option", "default", ""), rows), *([""] if options else [])])
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                yield from sections_of(found, f"{name} {inner}", context)


def option_usage(option: click.Option, context: click.Context) -> str:
    """Returns an option as it is written, e.g. `-o, --out FILE`."""
    value = "N" if isinstance(option.type, RANGES) else option.make_metavar(context)
    return ", ".join(option.opts) + ("" if option.is_flag else f" {value}")


def help_of(option: click.Option) -> str:
    """Returns an option's help, with the range of a number."""
    limits = option.type if isinstance(option.type, RANGES) else None
    limited = limits is not None and (limits.min, limits.max) != (None, None)
    return (option.help or "") + (f" N is in [{limits.min}, {limits.max}]." if limits and limited else "")


def default_of(option: click.Option) -> str:
    """Returns the default if the command's help shows it."""
    return code(str(option.default)) if option.show_default else ""


if __name__ == "__main__":
    sys.exit(main(pages))
