"""`dfw config`: look at configurations without running them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import rich_click

from dfw.cli.options import FILE, columns, compose_from, config_arguments, plugin_options, stages_from, use_plugins
from dfw.cli.output import say


@click.group("config", cls=rich_click.RichGroup)
def command() -> None:
    """Show, check and compare configurations; write their JSON Schema."""


@command.command("show", cls=rich_click.RichCommand)
@config_arguments
@plugin_options
def show(config: str, overrides: tuple[str, ...], plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Print CONFIG with every default written out and every name qualified."""
    use_plugins(plugin_files, blocked)
    compositions = stages_from(config, overrides)
    from dfw.runs.stages import staged_yaml

    say(staged_yaml(compositions), nl=False)


@command.command("validate", cls=rich_click.RichCommand)
@config_arguments
@plugin_options
def validate(config: str, overrides: tuple[str, ...], plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Check CONFIG: names, options, ranges, schedules, and that its parts fit together. Loads no model."""
    use_plugins(plugin_files, blocked)
    found = stages_from(config, overrides)
    stages = {name: f"stages.{name}." if name else "" for name in found}
    parts = [(stages[name] + part.key, part.entry) for name, composition in found.items() for part in composition.parts()]
    say(f"{config}: valid")
    for line in columns([(key, entry.qualified, entry.version) for key, entry in parts]):
        say(f"  {line}")


@command.command("schema", cls=rich_click.RichCommand)
@click.option("--out", type=FILE, help="File to write. Default: standard output.")
@plugin_options
def schema(out: Path | None, plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Print the JSON Schema of configurations, installed plugins included, for editors that understand YAML."""
    from dfw.atomic import write_text
    from dfw.errors import ConfigError
    from dfw.plugins.registry import registry
    from dfw.plugins.schema import schema as make_schema

    use_plugins(plugin_files, blocked)
    text = json.dumps(make_schema(registry()), indent=2) + "\n"
    if out is None:
        say(text, nl=False)
        return
    try:
        write_text(out, text)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot be written: {error.strerror}; name a file in a folder you may write to"
        ) from error


@command.command("diff", cls=rich_click.RichCommand)
@click.argument("first")
@click.argument("second")
@plugin_options
def diff(first: str, second: str, plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Print what differs between two configurations or run directories, defaults included."""
    use_plugins(plugin_files, blocked)
    before, after = (compose_from(_source(name), ()).resolved() for name in (first, second))
    dumped = [one.model_dump(mode="json", by_alias=True) for one in (before, after)]
    for path, old, new in differences(dumped[0], dumped[1]):
        say(f"{path}: {old} -> {new}")


_NOTHING: Mapping[str, Any] = {}
"""Stands for what one of two configurations does not have."""


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Gives (dotted path, old value, new value), as JSON, of all that differs. A number that becomes a ramp is one difference."""
    if isinstance(before, Mapping) and isinstance(after, Mapping) and (before or after):
        for key in dict.fromkeys([*before, *after]):
            old, new = before.get(key, _NOTHING), after.get(key, _NOTHING)
            old, new = (_NOTHING if old is None and new else old), (_NOTHING if new is None and old else new)
            yield from differences(old, new, f"{path}.{key}" if path else str(key))
    elif before is _NOTHING or after is _NOTHING or before != after:
        yield path, _json(before), _json(after)


def _json(value: Any) -> str:
    return "(none)" if value is _NOTHING else json.dumps(value, ensure_ascii=False)


def _source(name: str) -> str:
    """Returns the configuration that a run directory was made with; any other name as it is."""
    resolved = Path(name) / "resolved.yaml"
    return str(resolved) if resolved.is_file() else name
