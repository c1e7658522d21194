"""`dfw models`: the models that components and programs name, whether they are here, and whether they are whole."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click

from dfw.cli.options import columns, plugin_options, stages_from, use_plugins
from dfw.cli.output import say

if TYPE_CHECKING:
    from dfw.interfaces.models import Model

log = logging.getLogger("dfw.cli")

HEAD = ("NAME", "HERE", "SIZE", "LICENCE", "FROM", "FOR")


@click.group("models", cls=rich_click.RichGroup)
def command() -> None:
    """Show, fetch and check the models that components and programs can load."""


@command.command("list", cls=rich_click.RichCommand)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@plugin_options
def list_models(as_json: bool, plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """List the models that installed components and programs name, and which of them are on this machine.

    The size is that on the disk, else, with ~, that of the weights in half precision. The licence is the model card's where that
    is here, else what the component or program says.
    """
    use_plugins(plugin_files, blocked)
    from dfw.plugins.registry import registry
    from dfw.weights.known import cached, known_models, licence_of, size_of

    rows: list[dict[str, object]] = []
    for one in known_models(registry()):
        folder, model = cached(one.model), one.model
        here = "" if folder is None else "shipped" if model.folder is not None else "cached"
        size = size_of(folder) if folder is not None else model.gigabytes
        row: dict[str, object] = {"name": model.name, "here": here, "gigabytes": size, "licence": licence_of(model, folder)}
        row |= {"places": list(model.places), "folder": None if folder is None else str(folder), "for": list(one.users)}
        rows.append(row)
    if as_json:
        say(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for line in columns([HEAD, *map(_cells, rows)]):
        say(line)


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    size, here = row["gigabytes"], str(row["here"])
    shown = f"{'' if here else '~'}{size:.2g} GB" if isinstance(size, float) else ""
    places, users = row["places"], row["for"]
    assert isinstance(places, list)
    assert isinstance(users, list)
    return (
        str(row["name"]),
        here or "-",
        shown,
        str(row["licence"]) or "see the card",
        ", ".join(places) or "the package",
        ", ".join(users),
    )


@command.command("fetch", cls=rich_click.RichCommand)
@click.argument("name", metavar="NAME|CONFIG")
@click.argument("overrides", nargs=-1)
@click.option("--revision", help="Branch, tag or commit of the repository.")
@plugin_options
def fetch_models(
    name: str, overrides: tuple[str, ...], revision: str | None, plugin_files: tuple[Path, ...], blocked: tuple[str, ...]
) -> None:
    """Download a model into the hub's cache: a short name, a hub id, or all that a configuration names.

    Only the files that dfw reads are fetched, and the card. HF_HOME, HF_TOKEN and HF_ENDPOINT apply.
    """
    use_plugins(plugin_files, blocked)
    from dfw.errors import ConfigError, GuidanceError
    from dfw.plugins.registry import registry
    from dfw.weights.known import choices, fetch, known_models, named

    known = known_models(registry())
    found: list[Model] = named(name, known)
    if not found:
        found = _of_config(name, overrides)
        if not found:
            raise ConfigError(f"{name}: its components name no model that could be fetched; known ones: {choices(known)}")
    elif overrides:
        raise click.UsageError(f"{name} is a model, and takes no overrides; they belong to a configuration")
    refused = []
    for model in found:
        try:
            say(f"{model.name}: {fetch(model, revision)}")
        except GuidanceError as error:  # the others are fetched all the same
            if len(found) == 1:
                raise
            log.warning("%s", error)
            refused.append(model.name)
    if refused:
        raise GuidanceError(f"not fetched: {', '.join(refused)}; the lines above say why")


def _of_config(config: str, overrides: tuple[str, ...]) -> list[Model]:
    from dfw.config.load import find_config
    from dfw.errors import ConfigError
    from dfw.weights.known import models_of

    try:
        find_config(config)
    except ConfigError as error:
        raise ConfigError(f"{error}; and no component names such a model, see `dfw models list`") from None
    stages = stages_from(config, overrides).values()
    return list(dict.fromkeys(model for one in stages for model in models_of(one)))


@command.command("check", cls=rich_click.RichCommand)
@click.argument("names", nargs=-1, required=True, metavar="NAME|FOLDER...")
@plugin_options
def check_models(names: tuple[str, ...], plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> int:
    """Check that the files of models are whole: checksums, shards, and the length of each file of weights.

    Exit code 0 if they are, else 2.
    """
    use_plugins(plugin_files, blocked)
    from dfw.errors import ConfigError
    from dfw.plugins.registry import registry
    from dfw.weights.check import faults, weight_files
    from dfw.weights.known import cached, choices, known_models, named

    known, wrong = None, False
    for name in names:
        folder: Path | None = Path(name).expanduser()
        if folder is None or not folder.is_dir():
            known = known_models(registry()) if known is None else known
            models = named(name, known)
            if not models:
                raise ConfigError(
                    f"{name}: is neither a folder nor a model that a component or program names; those are {choices(known)}"
                )
            places = [place for place in map(cached, models) if place is not None]
            if not places:
                raise ConfigError(f"{name}: is not on this machine; fetch it with: dfw models fetch {name}")
        else:
            places = [folder]
        for place in places:
            weights = weight_files(place)
            found = list(faults(place)) if weights else ["it holds no weights in safetensors"]
            wrong = wrong or bool(found)
            for sentence in found:
                say(f"{place}: {sentence}")
            if not found:
                say(f"{place}: {len(weights)} {'file of weights is' if len(weights) == 1 else 'files of weights are'} whole")
    return 2 if wrong else 0
