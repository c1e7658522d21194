"""The built site: it has no dead link, asks no other machine for anything, and no page complains in a browser."""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsers import PATIENCE, browser, until
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"
__all__ = ["browser"]


@pytest.fixture(scope="module")
def site() -> Path:
    """The site, built as CONTRIBUTING says. A page with a fault ends the build."""
    done = subprocess.run([sys.executable, ROOT / "tools" / "docs" / "build.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return SITE


class Seen(HTMLParser):
    """What a page links to, what it loads, and what can be linked to on it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {"", "__top"}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given.get("href", ""))
        self.loads += [given[name] for name in ("src", "poster") if given.get(name)]


def target(page: Path, url: str) -> Path:
    """The file that a relative `url` on `page` names."""
    path = unquote(urlsplit(url).path)
    found = (page.parent / path).resolve() if path else page
    return found / "index.html" if found.is_dir() else found


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Seen]:
    """Every page, the report and the page for a missing one among them."""
    return {path: Seen(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_no_link_is_dead(pages: dict[Path, Seen]) -> None:
    dead = []
    for path, seen in pages.items():
        for url in seen.links + seen.loads:
            parts = urlsplit(url)
            if path.name == "404.html" or parts.scheme or parts.netloc:
                continue  # the page for what is missing has links from the root of the host
            found = target(path, url)
            if not found.is_file() or (found in pages and unquote(parts.fragment) not in pages[found].anchors):
                dead.append(f"{path.relative_to(SITE)}: {url}")
    assert dead == []
    assert sum(len(seen.links) for seen in pages.values()) > 3000


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Seen]) -> None:
    outside = [
        (path.name, url) for path, seen in pages.items() for url in seen.loads if urlsplit(url).scheme in ("http", "https")
    ]
    assert outside == []
    styles = "".join(path.read_text(encoding="utf-8") for path in SITE.rglob("*.css"))
    assert re.findall(r"""(?:url\(|@import )["']?(?:https?:)?//[^)]*""", styles) == []


def test_formulas_and_diagrams_are_on_the_page(site: Path) -> None:
    text = (site / "explanation" / "score-distillation" / "index.html").read_text(encoding="utf-8")
    assert text.count('display="block"') > 5
    assert "arithmatex" not in text
    assert '<svg role="img" aria-label="One step' in text
    for path in site.rglob("index.html"):
        text = path.read_text(encoding="utf-8")
        assert "$$" not in text, path
        assert not re.findall(r"<m[ion][^>]*>[^<]*\\[^<]*<", text), f"{path}: a command that is not typeset"


def test_the_course_is_on_the_site_with_what_its_notebooks_have_drawn(pages: dict[Path, Seen]) -> None:
    for path in (ROOT / "examples" / "notebooks").glob("[0-9]-*.ipynb"):
        outputs = [one for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] for one in cell.get("outputs", [])]
        page = SITE / "course" / path.stem / "index.html"
        drawn = [b64decode("".join(one["data"]["image/jpeg"])) for one in outputs if "data" in one]
        assert drawn == [target(page, url).read_bytes() for url in pages[page].loads if f"{path.stem}-" in url]
        text = page.read_text(encoding="utf-8")
        printed = [line for one in outputs for line in "".join(one.get("text", [])).splitlines() if line.strip()]
        assert [line for line in printed if html.escape(line.rstrip(), quote=False) not in html.unescape(text)] == []
        assert page in {target(SITE / "course" / "index.html", url) for url in pages[SITE / "course" / "index.html"].links}


def test_a_search_shows_formulas_as_text(site: Path) -> None:
    said = {one["location"]: one["text"] for one in json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]}
    assert "2αJ^⊤r" in said["claims/#1-the-jacobian-costs-time-and-memory"]
    code = re.compile("<(pre|code)>.*?</\\1>", re.DOTALL)
    plain = {place: code.sub("", text) for place, text in said.items()}
    assert [place for place, text in plain.items() if re.search(r"\\[(\[]|\\(frac|hat|epsilon)\b", text)] == []


def files_named_in(text: str) -> list[str]:
    """The relative links and pictures of a Markdown text. Code holds none, whatever it looks like."""
    seen = Seen(MarkdownIt("gfm-like", {"linkify": False}).render(text))
    return [unquote(urlsplit(url).path) for url in seen.links + seen.loads if not urlsplit(url).scheme]


def test_the_pages_of_the_repository_name_files_that_are_there() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")]
    named = [(path, name) for path in pages for name in files_named_in(path.read_text(encoding="utf-8"))]
    assert [f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (path.parent / name).exists()] == []
    assert len(named) > 50


def test_code_in_markdown_holds_no_link() -> None:
    code = "`Part[Noise](type=...)`, ``a `[b](c)` ``\n\n```python\nparts[0](1)\n```\n\n    indented[0](2)\n"
    assert files_named_in(code + '[one](a.md#part "title")\n<img src="b.png"> ![two](c%20d.png)') == ["a.md", "b.png", "c d.png"]


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


KINDS = [
    "",  # the front page
    "tutorials/objective/",
    "watching/",
    "course/",
    "course/2-variance/",
    "explanation/score-distillation/",
    "flow/",
    "objectives/",
    "methods/",
    "methods/dreamcraft3d/",
    "claims/",
    "benchmarks/",
    "reliability/",
    "recipes/",
    "wiring/",
    "configuration/",
    "commands/",
    "errors/",
    "components/loss/",
    "interfaces/guidance/",
    "troubleshooting/",
    "gallery/",
]
"""A page of each kind. The gallery is last: it waits for its viewers."""


@pytest.mark.browser
def test_no_page_complains_in_a_browser(browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="dark")  # a phone
    page.set_default_timeout(PATIENCE * 1000)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("response", lambda one: complaints.append(f"{one.url}: {one.status}") if one.status >= 400 else None)
    page.on("console", lambda one: complaints.append(f"{page.url}: {one.text}") if one.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    for kind in KINDS:
        page.goto(address + kind)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{page.url} scrolls sideways"
        if kind.startswith("explanation"):
            assert page.evaluate("document.querySelector('mfrac').getBoundingClientRect().height") > 20
            ink = "getComputedStyle(document.querySelector('svg.dfw text')).fill"
            assert int(re.findall(r"\d+", page.evaluate(ink))[0]) > 150  # light text on the dark page
    until(page, "[...document.querySelectorAll('model-viewer')].some((one) => one.loaded)", complaints)
    report = page.frame_locator("iframe").locator("h1")
    assert report.inner_text() == "a red mushroom"
    for width in (1200, 390):  # a screen, and a phone
        page.set_viewport_size({"width": width, "height": 900})
        boxes = page.evaluate("[...document.querySelectorAll('model-viewer')].map((one) => one.getBoundingClientRect().toJSON())")
        assert len({round(box["left"]) for box in boxes}) == {1200: 2, 390: 1}[width]
        assert all(box["left"] >= 0 and box["right"] <= width and box["width"] > 200 for box in boxes), boxes
    assert complaints == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    page.close()
