"""Writes generated pages into `docs/`, or checks that they are current."""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

Pages = Mapping[str, str]
"""Path below `docs/` -> Markdown."""


def code(text: str) -> str:
    """Formats `text` as code that may stand in a table: a pipe in backticks would end the cell, and `](` makes a link."""
    escaped = html.escape(text, quote=False).replace("|", "&#124;").replace("](", "]&#40;")
    return f"<code>{escaped}</code>" if text else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table, or no line if there is no row."""
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines] if lines else []


def stale(pages: Pages, folders: Iterable[str] = ()) -> list[str]:
    """Returns the pages that differ from `pages`, and those in the generated `folders` that are not in `pages`."""
    wrong = [name for name, text in pages.items() if not _is(DOCS / name, text)]
    return wrong + [name for name in _present(folders) if name not in pages]


def write(pages: Pages, folders: Iterable[str] = ()) -> None:
    """Writes `pages`, and deletes all others from the generated `folders`."""
    for name in _present(folders):
        if name not in pages:
            (DOCS / name).unlink()
    for name, text in pages.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")


def main(make: Callable[[], Pages], folders: Iterable[str] = ()) -> int:
    """Writes or checks the pages that `make` returns, by the command line. Returns 1 if a checked page is not current."""
    parser = argparse.ArgumentParser(description="Writes generated pages into docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is not what the code says")
    if not parser.parse_args().check:
        write(make(), folders)
        return 0
    wrong = stale(make(), folders)
    if wrong:
        print(f"docs: {', '.join(wrong)} not current; run python tools/docs/generate.py", file=sys.stderr)
    return 1 if wrong else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _present(folders: Iterable[str]) -> list[str]:
    return [path.relative_to(DOCS).as_posix() for folder in folders for path in sorted((DOCS / folder).glob("*.md"))]
