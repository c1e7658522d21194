"""A real Chromium for tests, and patience with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ARGUMENTS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
PATIENCE = 120  # seconds, software rendering on a busy machine


def missing(reason: str) -> None:
    """Skips, or fails where a browser is required."""
    if os.environ.get("DFW_REQUIRE_BROWSER") == "1":
        pytest.fail(f"DFW_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A Chromium that runs as long as the test file."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install playwright)")
    program = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if program is None:
        missing("there is no Chromium on the path (apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield running
        running.close()


def opened(browser, path: Path, width: int = 1000):
    """A page of `width` pixels that shows the file `path`."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    listened(page)
    page.goto(path.as_uri())
    return page


def listened(page):
    """Notes what a page complains of, for `closed`."""
    page.set_default_timeout(PATIENCE * 1000)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page


def closed(page) -> None:
    """Closes a page that has complained of nothing."""
    assert page.complaints == []
    page.close()


def until(page, condition: str | Callable[[], bool], complaints: list[str] | None = None) -> None:
    """Waits for a condition, in JavaScript or in Python, also while the page loads itself again.

    The policy of a page may forbid Playwright's own way of waiting.
    """
    from playwright.sync_api import Error

    for _ in range(PATIENCE * 5):
        try:
            if page.evaluate(condition) if isinstance(condition, str) else condition():
                return
        except Error as error:
            if "navigation" not in str(error) and "null" not in str(error):
                raise
        page.wait_for_timeout(200)
    pytest.fail(f"never: {condition}; complaints: {complaints}")
