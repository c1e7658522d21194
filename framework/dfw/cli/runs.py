"""`dfw runs`: find, look at, tag and remove runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click

from dfw.cli.options import FOLDER, columns
from dfw.cli.output import say

if TYPE_CHECKING:
    from dfw.studies.records import Record

SORTS = ("path", "began", "seconds", "status", "name", "subject", "seed", "step")
HEAD = ("STATUS", "STEP", "TIME", "NAME", "SEED", "PROMPT", "TAGS", "RUN")


@click.group("runs", cls=rich_click.RichGroup)
def command() -> None:
    """Find runs, look at them, tag them, remove them."""


@command.command("list", cls=rich_click.RichCommand)
@click.argument("folders", nargs=-1, type=FOLDER)
@click.option("--status", "statuses", multiple=True, help="Only runs that ended like this, or are `running`. May be repeated.")
@click.option("--name", help="Only runs of the configuration with this name.")
@click.option("--prompt", "words", help="Only runs whose prompt has these words in it.")
@click.option("--tag", "tags", multiple=True, help="Only runs with this tag. May be repeated.")
@click.option("--sort", type=click.Choice(SORTS), default="path", show_default=True, help="What the lines are sorted by.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_runs(
    folders: tuple[Path, ...],
    statuses: tuple[str, ...],
    name: str | None,
    words: str | None,
    tags: tuple[str, ...],
    sort: str,
    as_json: bool,
) -> None:
    """List the runs in and below FOLDERS; by default below runs/."""
    from dfw.errors import ConfigError
    from dfw.studies.records import find_runs, record_of

    absent = next((folder for folder in folders if not folder.is_dir()), None)
    if absent is not None:
        raise ConfigError(f"{absent}: there is no such folder; name one that holds runs")
    found = [record_of(path) for path in dict.fromkeys(find_runs(folders or (Path("runs"),)))]
    chosen = [
        one
        for one in found
        if (not statuses or one.status in statuses)
        and (name is None or one.name == name)
        and (words is None or words.lower() in one.subject.lower())
        and set(tags) <= set(one.tags)
    ]
    known, others = ([one for one in chosen if (getattr(one, sort) is None) is lacks] for lacks in (False, True))
    chosen = sorted(known, key=attrgetter(sort, "path")) + others
    if as_json:
        say(json.dumps([one.facts() for one in chosen], indent=2, ensure_ascii=False))
        return
    for line in columns([HEAD, *map(_row, chosen)]) if chosen else ():
        say(line)
    where = ", ".join(map(str, folders)) or "runs"
    total = f"{len(found)} {'run' if len(found) == 1 else 'runs'} in {where}"
    say(total if len(chosen) == len(found) else f"{len(chosen)} of {total}")


def _row(one: Record) -> tuple[str, ...]:
    from dfw.report.data import duration_text
    from dfw.text import shortened

    step = "" if one.step is None else f"{one.step}/{one.steps}"
    seed = "" if one.seed is None else str(one.seed)
    return (
        one.status,
        step,
        duration_text(one.seconds),
        one.name,
        seed,
        shortened(one.subject, 40),
        " ".join(one.tags),
        str(one.path),
    )


@command.command("show", cls=rich_click.RichCommand)
@click.argument("run", type=FOLDER)
def show(run: Path) -> None:
    """Say what is known of RUN: how it stands, how it was asked for, what it made."""
    from dfw.report.data import duration_text
    from dfw.runs.directory import RunDirectory, stage_directories
    from dfw.runs.life import STATUS
    from dfw.runs.manifest import MANIFEST
    from dfw.studies.records import record_of

    newest = RunDirectory.find(run)
    newest.require_settings()
    one, manifest, said = record_of(run), newest.read_json(MANIFEST), newest.read_json(STATUS)
    rows = [
        ("status", one.status),
        ("diagnosis", one.diagnosis),
        ("prompt", one.subject),
        ("seed", "" if one.seed is None else str(one.seed)),
        ("step", "" if one.step is None else f"{one.step} of {one.steps}"),
        ("time", duration_text(one.seconds)),
        ("began", one.began),
        ("stages", ", ".join(path.name for path in stage_directories(run))),
        ("command", str(manifest.get("command", ""))),
        ("device", str(manifest.get("device", ""))),
        ("tags", " ".join(one.tags)),
    ]
    files = said.get("artifacts")
    rows += [(str(name), str(newest.path / str(path))) for name, path in files.items()] if isinstance(files, dict) else []
    for line in columns([row for row in rows if row[1]]):
        say(line)


@command.command("tag", cls=rich_click.RichCommand)
@click.argument("run", type=FOLDER)
@click.argument("add", nargs=-1, metavar="[TAG]...")
@click.option("--drop", multiple=True, metavar="TAG", help="Take a tag away. May be repeated.")
def tag_run(run: Path, add: tuple[str, ...], drop: tuple[str, ...]) -> None:
    """Give RUN tags, each one word, and print all that it has."""
    from dfw.runs.directory import RunDirectory
    from dfw.studies.records import tag, tags_of

    RunDirectory.find(run)
    say(" ".join(tag(run, add, drop) if add or drop else tags_of(run)))


@command.command("fetch", cls=rich_click.RichCommand)
@click.argument("url")
@click.option("--out", type=FOLDER, help="Where they are put. Default: a folder below runs/ with the last name of the URL.")
def fetch_runs(url: str, out: Path | None) -> None:
    """Copy the runs at or below URL, that of a sweep's store, to this machine. What is here already and as far is left alone."""
    from dfw.errors import ConfigError
    from dfw.storage.mirror import bring, runs_below
    from dfw.storage.place import Place

    place = Place(url)
    target = out or Path("runs", place.url.rpartition("/")[2])
    found = runs_below(place)
    if not found:
        place.require_answer()
        raise ConfigError(f"{place.url}: holds no run; give the URL of a sweep's store, or of a run in it")
    for name in found:
        path = target / name if name else target
        bring(place / name if name else place, path if path.is_dir() else None, path)
    say(f"{len(found)} {'run' if len(found) == 1 else 'runs'} in {target}")


@command.command("rm", cls=rich_click.RichCommand)
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_runs(runs: tuple[Path, ...], yes: bool) -> None:
    """Remove RUNS and all their files, after a question. One that a process works on stays, and none is removed then."""
    from dfw.errors import CheckpointError
    from dfw.runs.directory import RunDirectory
    from dfw.studies.records import delete, is_at_work

    for run in runs:
        RunDirectory.find(run)
        if is_at_work(run):
            raise CheckpointError(f"{run}: a process works on it; nothing was removed")
    if not yes:
        _list(runs)
        try:
            agreed = click.confirm("Remove?")
        except click.Abort as error:
            if not isinstance(error.__context__, EOFError):  # Ctrl-C
                raise
            agreed = False
        if not agreed:
            raise click.UsageError("nothing was removed; answer y, or give --yes")
    for run in dict.fromkeys(runs):
        delete(run)
        say(f"removed {run}")


def _list(runs: Sequence[Path]) -> None:
    from dfw.studies.records import record_of

    for line in columns([HEAD, *(_row(record_of(run)) for run in runs)]):
        say(line)
