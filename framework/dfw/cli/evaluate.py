"""`dfw evaluate`: scores of what runs made, with intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click

from dfw.atomic import require_writable
from dfw.cli.options import FILE, FOLDER, columns, plugin_options, use_plugins
from dfw.cli.output import say
from dfw.config.settings import require_device
from dfw.errors import ConfigError

if TYPE_CHECKING:
    from dfw.evaluation.evaluate import Outcome
    from dfw.evaluation.summary import Row

HEAD = ("PROTOCOL", "METHOD", "SCORE", "MEAN", "95 % INTERVAL", "", "PROMPTS", "RUNS")
ENDINGS = (".json", ".csv")


@click.command("evaluate", cls=rich_click.RichCommand)
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--protocol", default="views16", show_default=True, help="Which views are looked at: views16, t3bench, gpteval3d.")
@click.option("--scorers", metavar="LIST", help="Scorers, comma-separated. Default: those that work offline for every run.")
@click.option("--set", "changes", multiple=True, metavar="NAME.KEY=VALUE", help="An option of a scorer; can be given again.")
@click.option("--width", type=click.IntRange(8, 4096), help="Pixels of a view, square, in place of the protocol's.")
@click.option("--device", help="Where scenes are rendered. Default: each run's own where this machine has it.")
@click.option("--again", is_flag=True, help="Score also what has been scored before.")
@click.option("--out", type=FILE, help="A .json or .csv file for the summary. What exists is kept: the new one gets a number.")
@plugin_options
def command(
    runs: tuple[Path, ...],
    protocol: str,
    scorers: str | None,
    changes: tuple[str, ...],
    width: int | None,
    device: str | None,
    again: bool,
    out: Path | None,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> int:
    """Score RUNS: run directories, sweeps, or folders that hold runs.

    Each finished run is shown as the protocol asks, and scored. The record is RUN/evaluation/PROTOCOL/results.json; what is there
    already is not scored again unless the run went on. Runs that are not finished are listed and left alone.
    """
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{out}: the summary is written as .json or .csv; give a name that ends so")
    if out is not None:
        require_writable(out.parent, f"--out {out}", "choose another file")
    if device is not None:
        try:
            require_device(device)
        except ValueError as error:
            raise ConfigError(f"--device: {error}") from None
    option = next((str(run) for run in runs if "=" in run.name and not run.exists()), None)
    if option is not None:
        raise click.UsageError(f"{option!r} is not a run; an option of a scorer follows --set: --set {option}")
    use_plugins(plugin_files, blocked)
    from dfw.evaluation.evaluate import choose, evaluate, runs_in  # imports torch, which a mistake in the words need not wait for
    from dfw.evaluation.protocols import PROTOCOLS
    from dfw.evaluation.summary import remarks_of, summarise
    from dfw.plugins.registry import registry

    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: there are {', '.join(PROTOCOLS)}")
    asked = choose(registry(), [name.strip() for name in (scorers or "").split(",") if name.strip()], changes)
    paths = runs_in(runs)
    outcomes: list[Outcome] = []
    for outcome in evaluate(paths, PROTOCOLS[protocol], asked, width, device, again):
        outcomes.append(outcome)
        say(f"[{len(outcomes)}/{len(paths)}] {_told(outcome)}")
    results = [{**one.result, "run": {**one.result["run"], "name": one.method}} for one in outcomes if one.result is not None]
    rows = summarise(results)
    for line in columns([HEAD, *map(_cells, rows)]) if rows else ():
        say(line)
    for line in [*_remarks(outcomes), *remarks_of(rows)]:
        say(line)
    if out is not None:
        say(_write(out, rows, outcomes))
    return 1 if any(one.state == "failed" for one in outcomes) else 0


def _told(outcome: Outcome) -> str:
    """Says what became of a run, with its scores."""
    note = f": {' '.join(outcome.note.split())}" if outcome.note else ""
    scores = {} if outcome.result is None else outcome.result["scores"]
    told = "; ".join(f"{name} {score['value']:.4g}" for name, score in scores.items() if score["value"] is not None)
    state = "judged before" if outcome.state == "kept" else outcome.state
    return f"{state}{note}  {outcome.path}" + (f"  {told}" if told else "")


def _remarks(outcomes: Iterable[Outcome]) -> list[str]:
    """Says why scorers gave runs no score, each reason once."""
    found: Counter[str] = Counter()
    for outcome in outcomes:
        for name, score in ({} if outcome.result is None else outcome.result["scores"]).items():
            if score["value"] is None:
                found[f"no {name}: {score['details'].get('why', 'it is not a finite number')}"] += 1
    return [f"{text} ({count} {'run' if count == 1 else 'runs'})" for text, count in found.items()]


def _cells(row: Row) -> tuple[str, ...]:
    interval = "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
    unit = f"{row.unit} {'' if row.better == 'higher' else '(lower is better)'}".strip()
    return (row.protocol, row.method, row.scorer, f"{row.mean:.4g}", interval, unit, str(row.prompts), str(row.runs))


def _write(out: Path, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> Path:
    """Writes the summary, and in JSON the record of each run. Returns the file."""
    from dfw.atomic import put_new, writing
    from dfw.evaluation.summary import as_csv, as_json

    if out.suffix.lower() == ".csv":
        text = as_csv(rows)
    else:
        runs = [{"path": str(one.path), "state": one.state, "note": one.note, "result": one.result} for one in outcomes]
        text = json.dumps({"summary": as_json(rows), "runs": runs}, indent=2, ensure_ascii=False) + "\n"
    with writing(out, ConfigError, otherwise="choose another file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        return put_new(out.parent, out.stem, [out.suffix], lambda _: {out.suffix: text.encode()})[out.suffix]
