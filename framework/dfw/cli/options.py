"""What several verbs share: the arguments that name a configuration, and the options for plugins."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dfw.text import shortened

if TYPE_CHECKING:
    from dfw.compose import Composition

log = logging.getLogger("dfw.cli")

Command = TypeVar("Command", bound=Callable[..., Any])


class _Path(click.Path):
    """A path; `~` is the home directory also where the shell does not see it, as in `--out=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Returns the path. Fails for one that no file can have, and for a URL."""
        from dfw.storage.place import is_url

        if isinstance(value, str) and is_url(value):
            self.fail(
                f"{shortened(value)} is a URL; `dfw runs fetch URL` brings runs here, and then give their folder", param, ctx
            )
        try:
            path = Path(os.fsdecode(super().convert(os.path.expanduser(value), param, ctx)))
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                path.lstat()  # a name that is too long, or links in a circle
            return path
        except (OSError, ValueError) as error:
            self.fail(f"{shortened(str(value))!r} cannot be a path: {error}", param, ctx)


class _FolderOrUrl(_Path):
    """A folder, or the URL of a store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a path, or the text of a URL."""
        from dfw.storage.place import is_url

        return value if isinstance(value, str) and is_url(value) else super().convert(value, param, ctx)


class Finite(click.FloatRange):
    """A number that is neither NaN nor infinite. A range alone lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


FILE = _Path(path_type=Path, dir_okay=False)
"""A file, which need not exist."""
FOLDER = _Path(path_type=Path, file_okay=False)
"""A folder, which need not exist."""
FOLDER_OR_URL = _FolderOrUrl(path_type=Path, file_okay=False)
"""A folder, which need not exist, or the URL of a store."""
ANY = _Path(path_type=Path)
"""A file or a folder, which need not exist."""


def config_arguments(command: Command) -> Command:
    """Adds the arguments CONFIG and OVERRIDES."""
    return click.argument("config")(click.argument("overrides", nargs=-1)(command))


def plugin_options(command: Command) -> Command:
    """Adds `--plugin FILE.py` and `--block NAME`; give them to `use_plugins`."""
    plugin = click.option("--plugin", "plugin_files", multiple=True, type=ANY, help="A Python file that registers components.")
    block = click.option("--block", "blocked", multiple=True, metavar="NAME", help="Leave out the plugins of a distribution.")
    return plugin(block(command))


def use_plugins(plugin_files: tuple[Path, ...], blocked: tuple[str, ...]) -> None:
    """Applies `plugin_options` until the command ends: blocks first, then runs the files.

    Raises PluginError. Warns of names that block nothing.
    """
    from dfw.plugins.discovery import block, useless_blocks
    from dfw.plugins.listeners import load_plugin_file, plugins_for_now
    from dfw.plugins.registry import rediscover

    if blocked or plugin_files:
        click.get_current_context().with_resource(plugins_for_now())
    if blocked:
        block(blocked)
        rediscover()
    for sentence in useless_blocks():
        log.warning("%s", sentence)
    for path in plugin_files:
        load_plugin_file(path)


def compose_from(config: str, overrides: tuple[str, ...]) -> Composition:
    """Loads a configuration and composes its parts; constructs nothing. Raises ConfigError, PluginError and PromptError."""
    from dfw.config.load import load_with_provenance
    from dfw.plugins.registry import registry

    _not_an_override(config)
    loaded = load_with_provenance(config, overrides)
    from dfw.compose import compose  # imports torch, which a mistake in the configuration need not wait for
    from dfw.runs.prompt_check import check_prompts

    composition = compose(loaded.config, registry(), loaded.provenance)
    check_prompts(composition, loaded.provenance)
    return composition


def stages_from(config: str, overrides: tuple[str, ...]) -> dict[str, Composition]:
    """Composes a configuration that may have stages: name -> composition, "" for a run without. Raises as `compose_from`."""
    from dfw.config.load import load_stages

    _not_an_override(config)
    loaded = load_stages(config, overrides)
    from dfw.runs.stages import compose_stages  # imports torch, which a mistake in the configuration need not wait for

    return compose_stages(loaded)


def _not_an_override(config: str) -> None:
    if "=" in config:
        raise click.UsageError(
            f"{config!r} looks like an override; the configuration comes first: dfw run dreamfusion {config!r}"
        )


def columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Formats rows of text as lines, each column as wide as its widest cell."""
    table = list(rows)
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
