"""`dfw sample`: two-dimensional images from a configuration's guidance, to see what the model knows."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import ANY, Finite, compose_from, config_arguments, plugin_options, use_plugins
from dfw.cli.output import say


@click.command("sample", cls=rich_click.RichCommand)
@config_arguments
@click.option("--count", type=click.IntRange(1, 256), default=4, show_default=True, help="Images.")
@click.option("--steps", type=click.IntRange(1, 1000), default=25, show_default=True, help="Steps of DDIM.")
@click.option("--scale", type=Finite(), default=7.5, show_default=True, help="Scale of classifier-free guidance; 1 for none.")
@click.option("--views", is_flag=True, help="A row of images for each view's words.")
@click.option("--guidance", "name", metavar="NAME", help="Which of several guidances. Default: the only one.")
@click.option("--out", type=ANY, default=Path("samples"), show_default=True, help="PNG file, or a folder.")
@plugin_options
def command(
    config: str,
    overrides: tuple[str, ...],
    count: int,
    steps: int,
    scale: float,
    views: bool,
    name: str | None,
    out: Path,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> None:
    """Draw images of CONFIG's prompt with its guidance (DDIM).

    A file that exists is kept; the new one gets the next free number.
    """
    use_plugins(plugin_files, blocked)
    composition = compose_from(config, overrides)
    from dfw.atomic import require_writable
    from dfw.prior.sample import sample

    require_writable(out if out.is_dir() else out.parent, f"--out {out}")
    say(sample(composition, count, steps, scale, out, views, name))
