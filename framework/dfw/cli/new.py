"""`dfw plugins new`: a complete package around a working component, to start from."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import FOLDER
from dfw.cli.output import say
from dfw.config.kinds import KINDS


@click.command("new", cls=rich_click.RichCommand)
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the component is.")
@click.option("--out", type=FOLDER, default=Path("."), help="Where the folder NAME is made. Default: here.")
def new(name: str, kind: str, out: Path) -> None:
    """Write the package NAME: pyproject, a working component, a configuration, tests on the conformance kit, README.

    NAME is the distribution's name, e.g. dfw-glow. Nothing that exists is overwritten.
    """
    from dfw.scaffold import names_for, trial, write_package

    files = write_package(name, kind, out)
    names = names_for(name)
    folder = out / names["distribution"]
    for path in files:
        say(f"wrote {path}")
    say(f"next:  cd {folder} && pip install -e '.[test]' && pytest && {trial(kind, names)}")
