"""Makes all generated pages of `docs/`: components, configuration, commands, interfaces, diagrams; and the navigation's entries.

python tools/docs/generate.py            # write the pages
python tools/docs/generate.py --check    # exit with 1 if a page is not what the code says
"""

from __future__ import annotations

import re
import sys

import commands
import components
import configuration
import diagrams
import interfaces
from pages import DOCS, Pages, main

FOLDERS = ("components", "interfaces")
NAVIGATION = "../zensical.toml"


def pages() -> dict[str, str]:
    """Returns all generated pages, and the navigation that names them."""
    made = components.pages() | configuration.pages() | commands.pages() | interfaces.pages() | diagrams.pages()
    return made | {NAVIGATION: navigation((DOCS / NAVIGATION).read_text(encoding="utf-8"), made)}


def navigation(text: str, made: Pages) -> str:
    """Returns zensical.toml with an entry for each page of a generated folder, between the folder's two marks."""
    for folder in FOLDERS:
        titles = {name: page.split("\n", 1)[0].removeprefix("# ") for name, page in made.items() if name.startswith(folder)}
        entries = "".join(f'      {{ "{title}" = "{name}" }},\n' for name, title in titles.items())
        mark = rf"(# <{folder}>\n).*?( *# </{folder}>)"
        text = re.sub(mark, lambda found, entries=entries: found[1] + entries + found[2], text, flags=re.DOTALL)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    sys.exit(main(pages, FOLDERS))
