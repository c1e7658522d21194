"""Builds the site: the pages, with typeset formulas and inline diagrams, and the gallery. The site needs no network.

python tools/docs/build.py              # into build/docs
python tools/docs/build.py --serve      # and shows it in a browser of this machine
"""

from __future__ import annotations

import argparse
import functools
import html
import http.server
import re
import shutil
import subprocess
import sys

import gallery
from latex2mathml.converter import convert
from pages import DOCS

ROOT = DOCS.parent
SITE = ROOT / "build" / "docs"

FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)
"""A formula as pymdownx.arithmatex leaves it on the page."""
DIAGRAM = re.compile(r'<img alt="([^"]*)" src="[^"]*diagrams/([\w-]+\.svg)" ?/?>')


def typeset(page: str) -> str:
    """Returns the page with MathML in place of LaTeX. Browsers show it without a script."""

    def one(found: re.Match[str]) -> str:
        display = "block" if found[1] == "div" else "inline"
        return convert(html.unescape(found[2] or found[3]).strip(), display=display)

    return FORMULA.sub(one, page)


def inline(page: str) -> str:
    """Returns the page with diagrams in place of pictures of them, so that their colours follow the page's."""

    def one(found: re.Match[str]) -> str:
        drawing = (DOCS / "diagrams" / found[2]).read_text(encoding="utf-8")
        return drawing.replace("<svg ", f'<svg role="img" aria-label="{found[1]}" ', 1)

    return DIAGRAM.sub(one, page)


def build() -> None:
    """Builds the site anew. Ends the program with zensical's complaints if a page has a fault."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    for path in SITE.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if (changed := inline(typeset(page))) != page:
            path.write_text(changed, encoding="utf-8")
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
