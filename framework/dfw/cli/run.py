"""`dfw run`: a configuration becomes an asset."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import rich_click

from dfw.cli.options import FOLDER, plugin_options, stages_from, use_plugins
from dfw.cli.output import say

log = logging.getLogger("dfw.cli")

STATUS_CODES = {"finished": 0, "failed": 1, "diverged": 4, "interrupted": 130}
"""How a run ended -> exit code."""


@click.command("run", cls=rich_click.RichCommand)
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1)
@click.option("--resume", type=FOLDER, metavar="RUN", help="Continue a run from its newest checkpoint.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the resolved configuration, load no model.")
@plugin_options
def command(
    config: str | None,
    overrides: tuple[str, ...],
    resume: Path | None,
    dry_run: bool,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> int:
    """Make the asset that CONFIG describes.

    CONFIG is a YAML file or the name of a shipped one. OVERRIDES change single values: prompt="a blue car" trainer.steps=300

    With --resume give no CONFIG; OVERRIDES then change what the run goes on with: trainer.steps=1000 makes it longer.
    """
    use_plugins(plugin_files, blocked)
    if resume is not None:
        return _resume(resume, (*(() if config is None else (config,)), *overrides), dry_run)
    if config is None:
        raise click.UsageError("give a CONFIG, e.g. dfw run dreamfusion, or --resume RUN")
    compositions = stages_from(config, overrides)
    from dfw.runs import stages
    from dfw.runs.wide_views import wide_views

    if dry_run:
        for sentence in (one for composition in compositions.values() for one in wide_views(composition)):
            log.warning("%s", sentence)
        say(stages.staged_yaml(compositions), nl=False)
        return 0
    from dfw.runs import runner

    single = compositions.get("")
    result = stages.run_stages(compositions) if single is None else runner.run(single.config, single)
    return STATUS_CODES[result.status]


def _resume(directory: Path, overrides: tuple[str, ...], dry_run: bool) -> int:
    named = [text for text in overrides if "=" not in text]
    if named or dry_run:
        what = f"{named[0]!r} is not an override" if named else "--dry-run does not go with it"
        raise click.UsageError(f"--resume continues a run with its own configuration: {what}; write key=value to change it")
    from dfw.runs import runner, stages
    from dfw.runs.directory import STAGES

    whole = (directory / STAGES).is_file()
    result = stages.resume_stages(directory, overrides) if whole else runner.resume(directory, overrides)
    return STATUS_CODES[result.status]
