"""`dfw render`: a turntable of a run's newest checkpoint."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import ANY, FOLDER, Finite, plugin_options, use_plugins
from dfw.cli.output import say


@click.command("render", cls=rich_click.RichCommand)
@click.argument("run", type=FOLDER)
@click.option(
    "--width", type=click.IntRange(8, 4096), help="Pixels of a frame, square. Default: the run's export.turntable_width."
)
@click.option("--frames", type=click.IntRange(1, 1000), help="Frames of one turn. Default: the run's export.turntable_frames.")
@click.option("--elevation", type=Finite(-90, 90), help="Degrees above the horizon. Default: 15.")
@click.option("--out", type=ANY, help="File, .webp, .gif or .mp4, or folder for PNG frames. Default: in the run's export folder.")
@plugin_options
def command(
    run: Path,
    width: int | None,
    frames: int | None,
    elevation: float | None,
    out: Path | None,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> None:
    """Render a turntable of RUN, a run directory.

    What exists is kept; the new file or folder gets the next free number.
    """
    use_plugins(plugin_files, blocked)
    from dfw.atomic import require_writable
    from dfw.runs import runner

    if out is not None:
        require_writable(out if out.is_dir() else out.parent, f"--out {out}")
    say(runner.render(run, width=width, frames=frames, elevation=elevation, out=out))
