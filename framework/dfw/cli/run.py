"""`dfw run`: a configuration becomes an asset."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import FOLDER, compose_from, plugin_options, use_plugins

STATUS_CODES = {"finished": 0, "failed": 1, "diverged": 4, "interrupted": 130}
"""How a run ended -> exit code."""


@click.command("run", cls=rich_click.RichCommand)
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1)
@click.option("--resume", type=FOLDER, metavar="RUN", help="Continue an interrupted run from its newest checkpoint.")
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
    """
    use_plugins(plugin_files, blocked)
    if resume is not None:
        if config is not None or dry_run:
            raise click.UsageError("--resume continues a run with its own configuration: give no CONFIG, overrides or --dry-run")
        from dfw.runs import runner

        return STATUS_CODES[runner.resume(resume).status]
    if config is None:
        raise click.UsageError("give a CONFIG, e.g. dfw run dreamfusion, or --resume RUN")
    composition = compose_from(config, overrides)
    if dry_run:
        from dfw.config.load import to_yaml

        click.echo(to_yaml(composition.resolved()), nl=False)
        return 0
    from dfw.runs import runner

    return STATUS_CODES[runner.run(composition.config, composition).status]
