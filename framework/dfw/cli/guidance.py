"""`dfw guidance`: look at a prior by itself."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import FILE, Finite, compose_from, config_arguments, plugin_options, use_plugins
from dfw.cli.output import say


@click.group("guidance", cls=rich_click.RichGroup)
def command() -> None:
    """Measure how a prior pulls at an image."""


@command.command("check", cls=rich_click.RichCommand)
@config_arguments
@click.option("--image", type=FILE, help="The picture to pull at. Default: middle grey.")
@click.option("--scale", type=Finite(), default=1.0, show_default=True, help="Scale of classifier-free guidance; 1 for none.")
@click.option("--points", type=click.IntRange(2, 200), default=12, show_default=True, help="Timesteps to look at.")
@click.option("--draws", type=click.IntRange(2, 100_000), default=64, show_default=True, help="Draws of noise at each.")
@click.option("--guidance", "which", metavar="NAME", help="Which of several guidances. Default: the only one.")
@click.option("--out", type=FILE, default=Path("guidance.svg"), show_default=True, help="SVG file of the plot.")
@plugin_options
def check(
    config: str,
    overrides: tuple[str, ...],
    image: Path | None,
    scale: float,
    points: int,
    draws: int,
    which: str | None,
    out: Path,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> None:
    """Plot the gradient of CONFIG's guidance against the timestep: its mean and its spread, with and without the control variate.

    Where the guidance knows the mean in closed form, and --scale is 1, the two are compared; a difference ends with exit code 3.
    """
    use_plugins(plugin_files, blocked)
    composition = compose_from(config, overrides)
    from dfw.atomic import put_new, require_writable, writing

    require_writable(out.parent, f"--out {out}")
    from dfw.prior.check import check_guidance_at

    found = check_guidance_at(composition, image, scale, points, draws, which)
    say(found.table())
    name = composition.guidance_part(which or next(iter(composition.config.models))).entry.qualified
    plot = found.svg(f"{name}: {composition.config.prompt!r}, scale {scale:g}").encode()
    with writing(f"--out {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        written = put_new(out.parent, out.stem, [out.suffix], lambda _: {out.suffix: plot})
    say(written[out.suffix])
