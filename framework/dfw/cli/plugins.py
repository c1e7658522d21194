"""`dfw plugins`: what is installed, from metadata alone; and the verbs that look at one plugin, or make one."""

from __future__ import annotations

import click
import rich_click

from dfw.cli.check import check
from dfw.cli.info import info
from dfw.cli.new import new
from dfw.cli.options import columns, use_plugins
from dfw.cli.output import say


@click.group("plugins", cls=rich_click.RichGroup)
def command() -> None:
    """Show, explain, check and make components and listeners."""


command.add_command(check)
command.add_command(info)
command.add_command(new)


@command.command("list", cls=rich_click.RichCommand)
def list_plugins() -> None:
    """List every component and listener, and whose it is. Imports none of them."""
    from dfw.plugins.discovery import scan
    from dfw.plugins.registry import registry

    use_plugins((), ())
    known, offered = registry(), scan()
    entries = [*known.entries(), *offered.listeners()]
    rows = [(entry.kind, entry.qualified, entry.version, entry.target) for entry in entries]
    for line in columns([("KIND", "NAME", "VERSION", "FROM"), *rows]):
        say(line)
    for entry in offered.blocked:
        say(f"blocked: {entry.kind} {entry.label}")
    for problem in known.problems:
        say(f"problem: {problem}")
