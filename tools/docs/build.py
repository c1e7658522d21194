"""Builds the site: the pages, the notebooks, typeset formulas, inline diagrams, and the gallery. The site needs no network.

python tools/docs/build.py              # into build/docs
python tools/docs/build.py --serve      # and shows it in a browser of this machine
"""

from __future__ import annotations

import argparse
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import gallery
import notebooks
from latex2mathml.converter import convert
from pages import DOCS

ROOT = DOCS.parent
SITE = ROOT / "build" / "docs"
PAGES = ROOT / "build" / "pages"
"""What the site is built of: `docs` and the notebooks."""

FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)
"""A formula as pymdownx.arithmatex leaves it on the page."""
DIAGRAM = re.compile(r'<img alt="([^"]*)" src="[^"]*diagrams/([\w-]+\.svg)" ?/?>')


def typeset(page: str) -> str:
    """Returns the page with MathML in place of LaTeX. Browsers show it without a script.

    On a narrow screen a formula of its own scrolls sideways, and the page does not.
    """

    def one(found: re.Match[str]) -> str:
        formula = html.unescape(found[2] or found[3]).strip()
        if found[1] == "span":
            return convert(formula, display="inline")
        return f'<div style="overflow-x: auto; padding: 0.3em 0">{convert(formula, display="block")}</div>'

    return FORMULA.sub(one, page)


RELATIONS = set("=≈≠<>≤≥∼+−")
"""Signs with space around them."""


def spoken(formula: str) -> str:
    """Returns LaTeX as plain text, for a search: `\\frac{\\alpha}{\\sigma_t}` is "α/σ_t". Accents and braces are left out."""

    def one(node: ElementTree.Element) -> str:
        parts = [one(child) for child in node]
        kind = node.tag.rpartition("}")[2]
        if kind in ("mover", "munder", "munderover"):
            return parts[0]
        if kind == "msubsup":
            return "{}_{}^{}".format(*parts)
        sign = {"mfrac": "/", "msub": "_", "msup": "^"}.get(kind, "")
        said = (node.text or "").strip() + sign.join(parts)
        return f" {said} " if said in RELATIONS else said

    return " ".join(one(ElementTree.fromstring(convert(formula))).split())


def searchable(text: str) -> str:
    """Returns a text of the search's index with plain text in place of LaTeX."""
    found = re.compile(r"\\\((.*?)\\\)|\\\[(.*?)\\\]", re.DOTALL)
    return found.sub(lambda one: html.escape(spoken(html.unescape(one[1] or one[2]).strip()), quote=False), text)


def index(path: Path) -> None:
    """Makes the search's index readable: its results show a part of it."""
    read = json.loads(path.read_text(encoding="utf-8"))
    for item in read["items"]:
        item |= {key: searchable(item[key]) for key in ("title", "text")}
    path.write_text(json.dumps(read, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def inline(page: str) -> str:
    """Returns the page with diagrams in place of pictures of them, so that their colours follow the page's."""

    def one(found: re.Match[str]) -> str:
        drawing = (DOCS / "diagrams" / found[2]).read_text(encoding="utf-8")
        return drawing.replace("<svg ", f'<svg role="img" aria-label="{found[1]}" ', 1)

    return DIAGRAM.sub(one, page)


def build() -> None:
    """Builds the site anew. Ends the program with zensical's complaints if a page has a fault."""
    for folder in (SITE, PAGES):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, PAGES)
    settings = notebooks.navigation((ROOT / "zensical.toml").read_text(encoding="utf-8"), notebooks.add(PAGES))
    settings = settings.replace('docs_dir = "docs"', 'docs_dir = "pages"').replace('site_dir = "build/docs"', 'site_dir = "docs"')
    (PAGES.parent / "zensical.toml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "build/zensical.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    for path in SITE.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if (changed := inline(typeset(page))) != page:
            path.write_text(changed, encoding="utf-8")
    index(SITE / "search.json")
    gallery.add(SITE)


def serve(port: int) -> None:
    """Shows the site at `port` of this machine until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/")
        server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the site into build/docs.")
    parser.add_argument(
        "--serve", type=int, nargs="?", const=8000, metavar="PORT", help="then show it at this port of the machine"
    )
    given = parser.parse_args()
    build()
    if given.serve is not None:
        serve(given.serve)
