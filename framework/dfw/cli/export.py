"""`dfw export`: mesh and assets of a run's newest checkpoint, with other settings than the run's own if need be."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import FOLDER, plugin_options, use_plugins


@click.command("export", cls=rich_click.RichCommand)
@click.argument("run", type=FOLDER)
@click.option("--formats", metavar="LIST", help="Comma-separated: glb, obj, ply.")
@click.option("--resolution", metavar="N", help="Cells of the marching-cubes grid along each axis.")
@click.option("--level", metavar="DENSITY", help="Density of the surface, 1/unit, or auto.")
@click.option("--faces", metavar="N", help="Upper bound on triangles.")
@click.option("--texture", metavar="PIXELS", help="Side of the baked texture.")
@click.option("--out", type=FOLDER, help="Folder to write into. Default: a new folder in the run's directory.")
@plugin_options
def command(
    run: Path,
    formats: str | None,
    resolution: str | None,
    level: str | None,
    faces: str | None,
    texture: str | None,
    out: Path | None,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> None:
    """Write the mesh of RUN, a run directory, and what else its geometry exports.

    What is not given is as in the run's configuration. Files that exist are kept; the new ones go to a new folder.
    """
    use_plugins(plugin_files, blocked)
    from dfw.compose import compose
    from dfw.config.load import load_with_provenance
    from dfw.plugins.registry import registry
    from dfw.runs import runner
    from dfw.runs.directory import RunDirectory

    written = {"formats": None if formats is None else f"[{formats}]", "resolution": resolution, "level": level}
    written |= {"faces": faces, "texture": texture}
    overrides = [f"export.{key}={value}" for key, value in written.items() if value is not None]
    loaded = load_with_provenance(RunDirectory.open(run).resolved, overrides)
    composition = compose(loaded.config, registry(), loaded.provenance)
    for name, path in runner.export(run, composition, out).items():
        click.echo(f"{name:<10} {path}")
