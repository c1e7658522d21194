"""`dfw sweep`: many runs, planned and checked as a whole."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click

from dfw.cli.options import FOLDER, columns, plugin_options, use_plugins
from dfw.cli.output import say
from dfw.config.kinds import KINDS
from dfw.errors import ConfigError, DfwError
from dfw.ranks.environment import rank_and_count
from dfw.runs.directory import enclosing_run

if TYPE_CHECKING:
    from dfw.interfaces.launcher import Launcher
    from dfw.storage.place import Place
    from dfw.studies.plan import Planned
    from dfw.studies.worker import Maker

_SEED = re.compile(r"seed=\d{1,9}")
"""Runs that differ in nothing else are checked once."""
DEFAULT = KINDS["launcher"].default.rpartition("/")[2]
SHOWN = 12
"""Runs, mistakes and failures that are listed; of more the number is said."""


@click.command("sweep", cls=rich_click.RichCommand)
@click.argument("configs", required=False, metavar="CONFIG[,CONFIG...]")
@click.argument("overrides", nargs=-1)
@click.option("--out", type=FOLDER, help="The sweep's folder; one that holds a sweep gets more runs. Default: a new one.")
@click.option(
    "--resume",
    metavar="SWEEP|URL",
    help="Go on with a sweep: what is finished is skipped. A URL is that of a store; --out then says where its runs go on.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Copy plan and runs there, such as s3://bucket/study: machines that share no folder then work on one sweep.",
)
@click.option("--retry", is_flag=True, help="Try runs that failed or diverged again.")
@click.option(
    "--on",
    "where",
    default=DEFAULT,
    show_default=True,
    metavar="LAUNCHER",
    help="Where runs are made: local:processes=2, or another launcher with its options.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan; make nothing.")
@plugin_options
def command(
    configs: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: str | None,
    store: str | None,
    retry: bool,
    where: str,
    dry_run: bool,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> int:
    """Make all combinations of configurations and values, each as an ordinary run.

    An override with several values makes as many runs: seed=0..2 losses.sds.guidance_scale=7.5,30 prompt=@prompts.txt (a value in
    each line). A comma separates values only where no space follows it.

    Several of these processes may work on one sweep at the same time, also on machines that share its folder or its store.
    """
    from dfw.storage.link import link
    from dfw.storage.place import Place
    from dfw.studies.launch import launcher
    from dfw.studies.plan import add_to_plan, begin_plan, extended, read_plan, same
    from dfw.studies.stored import add_to_store, stored_plan

    if (configs is None) == (resume is None):
        raise click.UsageError("give CONFIG[,CONFIG...] and values, e.g. dfw sweep dreamfusion seed=0..2; or --resume SWEEP")
    if rank_and_count()[1] > 1:  # its runs would take each other for processes of one run
        raise click.UsageError("torchrun starts the processes of one run; start a sweep without it, and say where with --on")
    use_plugins(plugin_files, blocked)
    chosen = launcher(where)
    folder, store = _where(resume, out, store)
    inside = enclosing_run(folder)
    if inside is not None:
        what = "is a run, in which" if inside == folder.absolute() else f"is in the run {inside}, where"
        raise ConfigError(f"{folder}: {what} the runs of a sweep would not be found; name another folder with --out")
    wanted = [] if configs is None else _planned(configs, overrides)
    place = Place(store) if store else None
    before = [] if resume is None and out is None else read_plan(folder)
    if place is not None:
        place.require()
        before = extended(stored_plan(place), before)
    runs = extended(before, wanted)
    if not runs:
        raise ConfigError(f"{resume}: holds no sweep; give the folder that `dfw sweep` printed when it began")
    todo = _shown_plan(folder, runs, retry, place)
    if todo:
        _check(todo)
    if dry_run:
        return 0
    from dfw.studies.worker import Maker  # imports torch

    if resume is None and out is None:
        folder = begin_plan(folder, runs)
    if place is not None:
        link(folder, place.url)
        runs = add_to_store(place, runs)
    if resume is None or place is not None:
        runs = add_to_plan(folder, runs)  # another process may have added runs meanwhile, under other names
    todo = [run for run in runs if same(run) in set(map(same, todo))]
    maker = Maker(folder.resolve(), retry, store, tuple(path.resolve() for path in plugin_files), blocked)
    return _make(folder, runs, todo, where, chosen, maker, place)


def _where(resume: str | None, out: Path | None, store: str | None) -> tuple[Path, str]:
    """Returns the sweep's folder on this machine, and the URL of its store, if it has one."""
    from dfw.storage.link import store_of
    from dfw.storage.place import checked_url, is_url

    if resume is not None and is_url(resume):
        if store is not None:
            raise click.UsageError("--resume names the store already; leave --store away")
        url = checked_url(resume)
        return out or Path("runs", "sweeps", url.rpartition("/")[2]), url
    if resume is not None and out is not None:
        raise click.UsageError("--resume names the sweep's folder already; leave --out away")
    folder = out or Path("runs", "sweeps", time.strftime("%Y%m%d-%H%M%S"))
    if resume is not None:
        folder = FOLDER.convert(resume, None, None)
    return folder, store or store_of(folder)


def _planned(configs: str, overrides: Sequence[str]) -> list[Planned]:
    from dfw.config.load import shipped_directory
    from dfw.studies.axes import axis
    from dfw.studies.plan import planned

    presets = shipped_directory() / "prompts"
    names = [one for one in configs.split(",") if one]
    if not names:
        raise ConfigError(f"{configs!r} names no configuration; write e.g. dreamfusion,sjc")
    return planned(names, [axis(text, presets) for text in overrides])


def _shown_plan(folder: Path, runs: Sequence[Planned], retry: bool, place: Place | None) -> list[Planned]:
    """Prints the plan. Returns what is to be done."""
    from dfw.studies.states import counted, is_left
    from dfw.studies.stored import states

    found = states(folder, runs, place)
    todo = [run for run, how in found.items() if is_left(how, retry)]
    where = folder if place is None else f"{folder}, copied to {place.url}"
    say(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} in {where}: {counted(list(found.values()))}")
    for run in todo[:SHOWN]:
        say(f"  {run.command}")
    if len(todo) > SHOWN:
        say(f"  ... and {len(todo) - SHOWN} more")
    return todo


def _check(runs: Sequence[Planned]) -> None:
    """Checks every run before the first begins. Raises the first mistake's error, with a sentence for each kind of mistake."""
    from dfw.runs.file_check import FileChecks
    from dfw.studies.worker import composed  # imports torch, which a mistake in the plan need not wait for

    files = FileChecks()
    mistakes: Counter[str] = Counter()
    first: DfwError | None = None
    alike = Counter(
        replace(run, name="", overrides=tuple(one for one in run.overrides if not _SEED.fullmatch(one))) for run in runs
    )
    for run, number in alike.items():
        try:
            composed(run, files)
        except DfwError as error:
            first = first or error
            mistakes[str(error)] += number
    if first is not None:
        lines = [text if count == 1 else f"{text} ({count} runs)" for text, count in mistakes.items()]
        more = [f"... and {len(lines) - SHOWN} other mistakes"] if len(lines) > SHOWN else []
        raise type(first)("\n".join([*lines[:SHOWN], *more]))


def _ended(folder: Path, runs: Sequence[Planned], place: Place | None) -> dict[Planned, str]:
    """How all runs stand. Where the store does not answer, what is finished here is not known to be copied."""
    from dfw.storage.place import StoreError
    from dfw.studies.stored import UNCOPIED, states

    try:
        return states(folder, runs, place)
    except StoreError as error:
        say(f"warning: {error}", err=True)
        return {run: UNCOPIED if how == "finished" else how for run, how in states(folder, runs, None).items()}


def _make(
    folder: Path,
    runs: Sequence[Planned],
    todo: Sequence[Planned],
    where: str,
    chosen: Launcher,
    maker: Maker,
    place: Place | None,
) -> int:
    from dfw.interfaces.launcher import Sweep
    from dfw.report.data import duration_text
    from dfw.runs.signals import stopping
    from dfw.studies.launch import outcomes
    from dfw.studies.states import counted, diagnosis
    from dfw.studies.stored import UNCOPIED

    with stopping() as stop:
        sweep = Sweep(maker.folder, [run.name for run in todo], maker, lambda: stop.number, say)
        with closing(outcomes(chosen, sweep)) as made:
            for number, outcome in enumerate(made, start=1):
                said = f": {outcome.diagnosis}" if outcome.diagnosis else ""
                say(f"[{number}/{len(todo)}] {outcome.status} after {duration_text(outcome.seconds)}  {outcome.run}{said}")
    ended = _ended(folder, runs, place)
    on = "" if where == DEFAULT else f" --on {shlex.quote(where)}"
    say(counted(list(ended.values())))
    broken = [run for run, how in ended.items() if how in ("failed", "diverged", "killed", UNCOPIED)]
    rows = [(ended[run], run.name, diagnosis(folder, run)) for run in broken[:SHOWN]]
    for line in columns(rows) if rows and stop.number is None else ():
        say(f"  {line}")
    if any(how in ("pending", "interrupted", "killed", UNCOPIED) for how in ended.values()):
        say(f"to go on: dfw sweep --resume {folder}{on}")
    elif broken:
        say(f"to try what failed again: dfw sweep --resume {folder}{on} --retry")
    if stop.number is not None:
        return 128 + stop.number
    return 1 if broken else 0
