"""`dfw view`: a run, or a folder of runs, in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import rich_click

from dfw.cli.options import FOLDER, plugin_options, use_plugins
from dfw.cli.output import say

if TYPE_CHECKING:
    from dfw.viewer.door import Door

Command = TypeVar("Command", bound=Callable[..., Any])


def view_options(command: Command) -> Command:
    """Adds `--view-port` and `--view-host`; give them to `opened_door`."""
    port = click.option(
        "--view-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Where the viewer listens. Default: the first free port from 7007 on.",
    )
    host = click.option(
        "--view-host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address of this machine on which the viewer listens. Rather use ssh than another one.",
    )
    return host(port(command))


def opened_door(host: str, port: int | None) -> Door:
    """Listens, and prints where. Raises ConfigError without viser, or where it cannot listen."""
    from dfw.viewer.door import Door

    door: Door = click.get_current_context().with_resource(contextlib.closing(Door(host, port)))
    for sentence in door.sentences():
        say(sentence)
    return door


@click.command("view", cls=rich_click.RichCommand)
@click.argument("folder", type=FOLDER, metavar="RUN|FOLDER")
@click.option("--device", help="Where the scene is rendered. Default: as in the run, where this machine has that.")
@view_options
@plugin_options
def command(
    folder: Path,
    device: str | None,
    view_port: int | None,
    view_host: str,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> None:
    """Look at RUN, or at the runs in FOLDER, in a browser: from any angle, with the curves of the training.

    A run that another process works on is shown at its newest checkpoint. No diffusion model is loaded. Ctrl-C ends it.
    """
    use_plugins(plugin_files, blocked)
    from dfw.viewer.found import runs_in

    runs = runs_in(folder)
    door = opened_door(view_host, view_port)
    from dfw.viewer.opened import OpenedViewer  # imports torch, which the address need not wait for

    with contextlib.closing(OpenedViewer(door, runs, device)) as viewer, contextlib.suppress(KeyboardInterrupt):
        viewer.serve()
