"""Makes pages of the course's notebooks: text as it is, code and what it printed as blocks, pictures as files beside it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
from pages import DOCS

NOTEBOOKS = DOCS.parent / "examples" / "notebooks"
FOLDER = "course"
"""Folder of the site that the pages are in."""
ENTRY = '{ "A course in score distillation" = "course.md" }'
"""The course in the navigation, which gets an entry for each notebook."""
PICTURES = {"image/jpeg": "jpg", "image/png": "png"}


def add(folder: Path) -> list[str]:
    """Adds the notebooks and their pages to the pages in `folder`, links to them, and returns their names, `1-variance`."""
    names = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]-*.ipynb"))
    (folder / FOLDER).mkdir()
    for name in names:
        source = NOTEBOOKS / f"{name}.ipynb"
        (folder / FOLDER / source.name).write_bytes(source.read_bytes())
        (folder / FOLDER / f"{name}.md").write_text(_page(name, folder / FOLDER), encoding="utf-8")
    for path in folder.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        linked = re.sub(r"\]\((?:\.\./)+examples/notebooks/([\w-]+)\.ipynb\)", rf"]({FOLDER}/\1.md)", text)
        if linked != text:
            path.write_text(linked, encoding="utf-8")
    return names


def navigation(text: str, names: list[str]) -> str:
    """Returns zensical.toml with an entry for each notebook. Raises ValueError where it does not name the course."""
    if ENTRY not in text:
        raise ValueError(f"zensical.toml has no {ENTRY}")
    pages = {"Overview": "course.md"} | {_title(name): f"{FOLDER}/{name}.md" for name in names}
    entries = ", ".join(f'{{ "{title}" = "{page}" }}' for title, page in pages.items())
    return text.replace(ENTRY, ENTRY.replace('"course.md"', f"[ {entries} ]"))


def _title(name: str) -> str:
    return str(_cells(name)[0].source).split("\n", 1)[0].removeprefix("# ")


def _cells(name: str) -> list[Any]:
    return list(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells)  # type: ignore[no-untyped-call]


def _page(name: str, folder: Path) -> str:
    """Returns a notebook as Markdown, and writes its pictures into `folder`."""
    parts, heading = [], ""
    for number, cell in enumerate(_cells(name)):
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)", cell.source, re.MULTILINE)][-1]
            parts.append(re.sub(r"\]\(([\w-]+)\.ipynb", r"](\1.md", cell.source.replace("](../../docs/", "](../")))
            continue
        parts.append(f"````python\n{cell.source}\n````")
        parts += [_output(one, f"{name}-{number}-{place}", heading, folder) for place, one in enumerate(cell.outputs)]
    parts.insert(1, f"This page is a notebook: [{name}.ipynb]({name}.ipynb).")
    return "\n\n".join(parts) + "\n"


def _output(output: Any, stem: str, heading: str, folder: Path) -> str:
    """Returns what a cell has printed or drawn. Raises ValueError for a kind of output that a page cannot show."""
    if output.output_type == "stream":
        return f"````text\n{output.text.rstrip()}\n````"
    for kind, ending in PICTURES.items():
        if kind in output.get("data", {}):
            (folder / f"{stem}.{ending}").write_bytes(base64.b64decode(output.data[kind]))
            return f"![{heading}: what the code above draws]({stem}.{ending})"
    raise ValueError(f"{stem}: a page cannot show an output of the kind {output.output_type} {list(output.get('data', ()))}")
