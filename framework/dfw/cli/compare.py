"""`dfw compare`: runs side by side, on a page, a contact sheet and in a table."""

from __future__ import annotations

from pathlib import Path

import click
import rich_click

from dfw.cli.options import FILE, FOLDER
from dfw.cli.output import say


@click.command("compare", cls=rich_click.RichCommand)
@click.argument("folders", nargs=-1, required=True, type=FOLDER, metavar="RUN|SWEEP|FOLDER...")
@click.option("--out", type=FILE, default=Path("comparison.html"), show_default=True, help="The page.")
@click.option("--contact-sheet", "sheet", type=FILE, metavar="FILE.png", help="Also write one picture of prompts and methods.")
@click.option("--table", type=FILE, metavar="FILE.tex|.csv", help="Also write the figures, as LaTeX or CSV.")
def command(folders: tuple[Path, ...], out: Path, sheet: Path | None, table: Path | None) -> None:
    """Compare runs on one page that opens from disk: prompts by methods, turning together.

    Each folder is a run, a sweep, or holds runs. Pictures go to a folder next to the page. A second call replaces the page and
    makes only the pictures that are new. A contact sheet or table that exists is kept: the new one gets a number.
    """
    from dfw.comparison.entries import entries_of
    from dfw.comparison.figures import check_table, write_table
    from dfw.comparison.page import check_page, write_page
    from dfw.comparison.sheet import check_sheet, write_sheet

    check_page(out)  # before anything is read: that may take a while
    if sheet is not None:
        check_sheet(sheet)
    if table is not None:
        check_table(table)
    entries = entries_of(dict.fromkeys(folders))
    title = " and ".join(dict.fromkeys(folder.resolve().name for folder in folders)) if len(folders) < 4 else "Comparison"
    say(f"{len(entries)} {'run' if len(entries) == 1 else 'runs'}: {write_page(out, entries, title)}")
    if sheet is not None:
        say(f"contact sheet: {write_sheet(sheet, entries)}")
    if table is not None:
        say(f"table: {write_table(table, entries)}")
