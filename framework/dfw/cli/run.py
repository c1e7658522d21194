"""`dfw run`: a configuration becomes an asset."""

from __future__ import annotations

import contextlib
import logging
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click
from click.core import ParameterSource

from dfw.atomic import require_writable
from dfw.cli.options import FOLDER, FOLDER_OR_URL, plugin_options, stages_from, use_plugins
from dfw.cli.output import say
from dfw.cli.view import opened_door, view_options
from dfw.errors import CheckpointError, ConfigError
from dfw.ranks.environment import follows
from dfw.runs.call import Call
from dfw.runs.console import ConsoleListener
from dfw.runs.directory import STAGES, RunDirectory
from dfw.runs.life import status_of
from dfw.storage.link import store_of
from dfw.storage.place import Place
from dfw.storage.single import check_new, copied
from dfw.studies.plan import PLAN

if TYPE_CHECKING:
    from dfw.runs.drive import RunResult
    from dfw.viewer.door import Door

log = logging.getLogger("dfw.cli")

STATUS_CODES = {"finished": 0, "failed": 1, "diverged": 4, "interrupted": 130}
"""How a run ended -> exit code; of an interrupted one 128 more than the signal's number, so 130 for Ctrl-C."""
LOADING = "loading torch and the parts of the run"


@click.command("run", cls=rich_click.RichCommand)
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1)
@click.option(
    "--resume",
    type=FOLDER_OR_URL,
    metavar="RUN|URL",
    help="Continue a run from its newest checkpoint. A URL is that of its store; --out then says where it goes on.",
)
@click.option("--out", type=FOLDER, help="With --resume URL, the run's folder on this machine. Default: one in runs/resumed.")
@click.option(
    "--store",
    metavar="URL",
    help="Copy the run there, such as s3://bucket/car: another machine goes on from it with --resume URL.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print the resolved configuration, load no model.")
@click.option("--view", is_flag=True, help="Watch the run in a browser: needs the extra viewer.")
@view_options
@plugin_options
def command(
    config: str | None,
    overrides: tuple[str, ...],
    resume: Path | str | None,
    out: Path | None,
    store: str | None,
    dry_run: bool,
    view: bool,
    view_port: int | None,
    view_host: str,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> int:
    """Make the asset that CONFIG describes.

    CONFIG is a YAML file or the name of a shipped one. OVERRIDES change single values: prompt="a blue car" trainer.steps=300

    With --resume give no CONFIG; OVERRIDES then change what the run goes on with: trainer.steps=1000 makes it longer.
    """
    began = time.monotonic()
    context = click.get_current_context()
    command = shlex.join(["dfw", *context.obj])
    sources = [context.get_parameter_source(name) for name in ("view_port", "view_host")]
    if not view and ParameterSource.COMMANDLINE in sources:
        raise click.UsageError("--view-port and --view-host say where the viewer listens; write --view too")
    door = opened_door(view_host, view_port) if view and not dry_run and not follows() else None
    if out is not None and not isinstance(resume, str):
        instead = "write output=FOLDER for a new run" if resume is None else f"{resume} goes on where it is"
        raise click.UsageError(f"--out says where the run of --resume URL goes on; {instead}")
    if resume is not None:
        given = (*(() if config is None else (config,)), *overrides)
        return _resume((resume, out, store), given, dry_run, (plugin_files, blocked), Call(command, began), door)
    if config is None:
        raise click.UsageError("give a CONFIG, e.g. dfw run dreamfusion, or --resume RUN")
    use_plugins(plugin_files, blocked)
    compositions = stages_from(config, overrides)
    if follows():
        return 0 if dry_run else _follow()
    place = None if store is None else Place(store)
    if place is not None:
        check_new(place)
    from dfw.runs import stages
    from dfw.runs.wide_views import wide_views

    if dry_run:
        for output in dict.fromkeys(composition.config.output for composition in compositions.values()):
            require_writable(Path(output), f"output={output}", "name a folder that you may write to")
        for sentence in (one for composition in compositions.values() for one in wide_views(composition)):
            log.warning("%s", sentence)
        say(stages.staged_yaml(compositions), nl=False)
        return 0
    heard = _heard(door)
    from dfw.runs import runner
    from dfw.weights.known import check_models

    check_models(compositions)
    single, call = compositions.get(""), Call(command, began)
    with _copied(place):
        if single is None:
            return _code(stages.run_stages(compositions, heard, call))
        return _code(runner.run(single.config, single, heard, call=call))


def _heard(door: Door | None) -> list[object]:
    """The listeners of the command line: the console, and a viewer behind the door, which ends with the command."""
    heard: list[object] = [ConsoleListener().saying(LOADING)]
    if door is not None:
        from dfw.viewer.live import LiveViewer

        heard.append(click.get_current_context().with_resource(contextlib.closing(LiveViewer(door))))
    return heard


def _resume(
    asked: tuple[Path | str, Path | None, str | None],
    overrides: tuple[str, ...],
    dry_run: bool,
    plugins: tuple[tuple[Path, ...], tuple[str, ...]],
    call: Call,
    door: Door | None,
) -> int:
    named = [text for text in overrides if "=" not in text]
    if named or dry_run:
        what = f"{named[0]!r} is not an override" if named else "--dry-run does not go with it"
        raise click.UsageError(f"--resume continues a run with its own configuration: {what}; write key=value to change it")
    use_plugins(*plugins)
    directory, place = _where(*asked)
    if follows():
        return _follow()
    try:
        heard = _heard(door)
        from dfw.runs import runner, stages

        with _copied(place, directory):
            if place is not None and not overrides and status_of(directory) == "finished":
                say(f"{directory}: is finished")
                return 0
            if (directory / STAGES).is_file():
                return _code(stages.resume_stages(directory, overrides, heard, call))
            return _code(runner.resume(directory, overrides, heard, call=call))
    except KeyboardInterrupt as pressed:
        if type(pressed) is KeyboardInterrupt:  # it came before the run handled signals, so nobody has said how to go on
            vars(pressed)["folder"] = directory
        raise


def _where(asked: Path | str, out: Path | None, store: str | None) -> tuple[Path, Place | None]:
    """Returns the folder in which a run goes on, and its store, if it has one."""
    if isinstance(asked, Path):
        RunDirectory.find(asked)
        url = store or store_of(asked)
        return asked, Place(url) if url else None
    if store is not None:
        raise click.UsageError("--resume names the store already; leave --store away")
    place = Place(asked)
    parent, _, name = place.url.rpartition("/")
    if not parent.endswith("/") and Place(parent).read(PLAN) is not None:
        raise ConfigError(f"{asked}: is a run of a sweep; go on with `dfw sweep --resume {parent}`")
    folder = out or Path("runs", "resumed", name)
    if folder.is_dir():
        try:
            RunDirectory.find(folder)
        except CheckpointError as error:
            raise ConfigError(f"{error}; or name one with --out that is not there yet") from error
        if store_of(folder) not in ("", place.url):
            raise ConfigError(f"--resume {asked}: {folder} has another store, {store_of(folder)}; name another folder with --out")
    return folder, place


@contextlib.contextmanager
def _copied(place: Place | None, folder: Path | None = None) -> Iterator[None]:
    """The run that is made inside is copied to its store, if it has one."""
    if place is None:
        yield
        return
    with copied(place, folder):
        yield
    say(f"copied to {place.url}")


def _follow() -> int:
    """Takes part in the run that another process leads, which shows and writes it."""
    from dfw.runs.following import follow

    return _code(follow())


def _code(result: RunResult) -> int:
    return STATUS_CODES[result.status] if result.signal is None or result.status != "interrupted" else 128 + result.signal
