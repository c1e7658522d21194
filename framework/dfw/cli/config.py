"""`dfw config`: look at configurations without running them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import rich_click

from dfw.cli.options import FILE, columns, compose_from, config_arguments, plugin_options, stages_from, use_plugins


@click.group("config", cls=rich_click.RichGroup)
def command() -> None:
    """Show, check and compare configurations; write their JSON Schema."""


@command.command("show", cls=rich_click.RichCommand)
@config_arguments
@plugin_options
def show(config: str, overrides: tuple[str, ...], plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Print CONFIG with every default written out and every name qualified."""
    from dfw.runs.stages import staged_yaml

    use_plugins(plugin_files, blocked)
    click.echo(staged_yaml(stages_from(config, overrides)), nl=False)


@command.command("validate", cls=rich_click.RichCommand)
@config_arguments
@plugin_options
def validate(config: str, overrides: tuple[str, ...], plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Check CONFIG: names, options, ranges, schedules, and that its parts fit together. Loads no model."""
    use_plugins(plugin_files, blocked)
    found = stages_from(config, overrides)
    stages = {name: f"stages.{name}." if name else "" for name in found}
    parts = [(stages[name] + part.key, part.entry) for name, composition in found.items() for part in composition.parts()]
    click.echo(f"{config}: valid")
    for line in columns([(key, entry.qualified, entry.version) for key, entry in parts]):
        click.echo(f"  {line}")


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
    text = json.dumps(make_schema(registry()), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
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
    before, after = (
        leaves(compose_from(_source(name), ()).resolved().model_dump(mode="json", by_alias=True)) for name in (first, second)
    )
    for path in dict.fromkeys([*before, *after]):
        old, new = before.get(path, "(none)"), after.get(path, "(none)")
        if old != new:
            click.echo(f"{path}: {old} -> {new}")


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Returns dotted path -> value, as JSON, of everything in a configuration that is not a mapping."""
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= leaves(item, f"{path}.{key}" if path else str(key))
        return found
    return {path: json.dumps(value, ensure_ascii=False)}


def _source(name: str) -> str:
    """Returns the configuration that a run directory was made with; any other name as it is."""
    resolved = Path(name) / "resolved.yaml"
    return str(resolved) if resolved.is_file() else name
