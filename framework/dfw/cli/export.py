"""`dfw export`: mesh and assets of a run's newest checkpoint, with other settings than the run's own if need be."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import ANY, FOLDER, plugin_options, use_plugins
from dfw.cli.output import say


@click.command("export", cls=rich_click.RichCommand)
@click.argument("run", type=FOLDER)
@click.option("--formats", metavar="LIST", help="Exporters, comma-separated: glb, obj, ply, stl, usdz or others.")
@click.option("--resolution", metavar="N", help="Cells of the marching-cubes grid along each axis.")
@click.option("--level", metavar="DENSITY", help="Density of the surface, 1/unit, or auto.")
@click.option("--faces", metavar="N", help="Upper bound on triangles.")
@click.option("--texture", metavar="PIXELS", help="Side of the baked texture.")
@click.option("--out", type=ANY, help="File, whose ending decides the format, or folder. Default: a new folder in the run's.")
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

    What is not given is as in the run's configuration. Files that exist are kept; new ones get the next free number.
    """
    use_plugins(plugin_files, blocked)
    from dfw.atomic import require_writable
    from dfw.compose import compose
    from dfw.config.load import load_with_provenance
    from dfw.export.formats import is_file
    from dfw.plugins.registry import registry
    from dfw.runs import runner
    from dfw.runs.directory import RunDirectory

    if out is not None:
        require_writable(out if out.is_dir() else out.parent, f"--out {out}")
    if formats is not None and out is not None and is_file(out):
        raise click.UsageError(f"the ending of --out {out} decides the format; leave out --formats, or give --out a folder")
    given = {"formats": formats, "resolution": resolution, "level": level, "faces": faces, "texture": texture}
    lists = {"formats": f"[{formats}]"}
    overrides = {f"export.{key}={lists.get(key, value)}": f"--{key} {value}" for key, value in given.items() if value is not None}
    loaded = load_with_provenance(RunDirectory.find(run).resolved, overrides)
    composition = compose(loaded.config, registry(), loaded.provenance)
    for name, path in runner.export(run, composition, out).items():
        say(f"{name:<10} {path}")
