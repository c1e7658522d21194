"""`dfw plugins info`: one component or listener, with all its options. Imports that plugin and no other."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click

from dfw.cli.options import plugin_options, use_plugins
from dfw.cli.output import say
from dfw.config.kinds import KINDS
from dfw.plugins.discovery import LISTENER

if TYPE_CHECKING:
    from dfw.plugins.describe import Description, Option
    from dfw.plugins.discovery import Entry


@click.command("info", cls=rich_click.RichCommand)
@click.argument("name")
@click.option("--kind", type=click.Choice([*KINDS, LISTENER]), help="Needed where several kinds have one of that name.")
@plugin_options
def info(name: str, kind: str | None, plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Show the component or listener NAME, bare or qualified: options, features, and where it comes from."""
    use_plugins(plugin_files, blocked)
    kind = kind or _kind_of(name)
    lines = _listener(_found(name)) if kind == LISTENER else _component(kind, name)
    for line in lines:
        say(line)


def _kind_of(name: str) -> str:
    """Finds the one kind that has a component of that name."""
    from dfw.plugins.discovery import scan
    from dfw.plugins.registry import registry

    known = registry()
    kinds = known.kinds_of(name) + ([LISTENER] if scan().listeners(name) else [])
    if len(kinds) > 1:
        raise click.UsageError(
            f"{name!r} is the name of several kinds ({', '.join(kinds)}): add --kind {' or --kind '.join(kinds)}"
        )
    if not kinds:
        raise known.unknown(name, "component or listener")
    return kinds[0]


def _found(name: str) -> Entry:
    from dfw.errors import PluginError
    from dfw.plugins.discovery import scan

    matches = scan().listeners(name)
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise PluginError(f"no listener named {name!r}; dfw plugins list shows all")
    choices = ", ".join(f"{entry.qualified} ({entry.provider})" for entry in matches)
    raise PluginError(f"listener {name!r} is provided by several distributions; write one of {choices}")


def _listener(entry: Entry) -> Iterator[str]:
    from dfw.errors import PluginError
    from dfw.plugins.listeners import Listeners

    listeners = Listeners()
    listeners.load(entry)
    if listeners.problems:
        raise PluginError(str(listeners.problems[0]))
    (listener,) = listeners.active
    yield f"{LISTENER} {listener.name}"
    yield from _facts(
        {
            "distribution": str(entry.provider),
            "module": entry.target,
            "hooks": ", ".join(listener.hooks),
        }
    )


def _component(kind: str, name: str) -> Iterator[str]:
    from dfw.plugins.describe import describe
    from dfw.plugins.registry import registry

    known = registry()
    entry = known.resolve(kind, name, "")
    description = describe(entry, known.load(entry))
    yield f"{kind} {description.name}"
    yield from (f"  {line}" if line else "" for line in description.summary.splitlines())
    yield ""
    yield from _facts(
        {
            "distribution": f"{description.distribution} {description.version}",
            "module": description.module,
            "requires": _words(description.requires),
            "provides": _words(description.provides),
        }
    )
    yield from (f"{'':14}{feature} when {hint}" for feature, hint in description.hints.items())
    yield ""
    yield from _options(description)


def _facts(facts: dict[str, str]) -> Iterator[str]:
    yield from (f"{name:<14}{value}" for name, value in facts.items())


def _words(words: frozenset[str] | None) -> str:
    return "depends on the options" if words is None else ", ".join(sorted(words)) or "nothing"


def _options(description: Description) -> Iterator[str]:
    yield "options" if description.options else "no options"
    when = ""
    for option in description.options:
        if option.when and option.when != when:
            yield f"  where {option.when}:"
        when = option.when
        yield from _option(option, "    " if option.when else "  ")


def _option(option: Option, indent: str) -> Iterator[str]:
    width = min(shutil.get_terminal_size((110, 24)).columns, 130)
    default = option.default if option.default == "required" else f"default {option.default}"
    yield from textwrap.wrap(
        f"{option.path}: {option.type}; {default}", width, initial_indent=indent, subsequent_indent=f"{indent}    "
    )
    yield from textwrap.wrap(option.help, width, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    ")
