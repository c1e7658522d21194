"""The comparison in a real browser, from disk: it turns as one, shows the object, filters, and fetches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import PATIENCE, browser, closed, listened, opened, until

from dfw.comparison.entries import entries_of
from dfw.comparison.page import write_page

pytestmark = pytest.mark.browser
__all__ = ["browser"]

TURNED = "[...document.querySelectorAll('.strip')].map((one) => getComputedStyle(one).objectPosition)"
VISIBLE = "[...document.querySelectorAll('.tile')].filter((one) => one.checkVisibility()).length"


@pytest.fixture(scope="module")
def page_file(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("a page # with odd ? name") / "c.html", entries_of([study]), "A study")


def test_it_turns_as_one_and_a_click_opens_the_object(browser, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    listened(page)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    frames: set[str] = set()
    for _ in range(PATIENCE * 10):
        positions = page.evaluate(TURNED)
        assert len(positions) == 9
        assert len(set(positions)) == 1  # one clock
        frames.add(positions[0])
        if len(frames) > 3:
            break
        page.wait_for_timeout(100)
    assert len(frames) > 3
    page.locator("#play").click()
    page.locator("#frame").focus()
    page.locator("#frame").press("End")
    assert set(page.evaluate(TURNED)) == {"100% 0px"}
    page.locator(".tile[data-status=finished]").first.click()
    until(page, "document.querySelector('#detail').open")
    for _ in range(PATIENCE * 5):
        if any(frame.url.endswith("#result") and frame.evaluate(LOADED) for frame in page.frames[1:]):
            break
        page.wait_for_timeout(200)
    else:
        pytest.fail(f"the object is not shown; complaints: {page.complaints}")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail').open && document.activeElement.matches('.tile')")
    assert page.evaluate("window.hacked") is None
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    closed(page)


LOADED = "document.querySelector('#viewer')?.loaded === true"


def test_the_filter_and_the_keys(browser, page_file: Path) -> None:
    page = opened(browser, page_file)
    assert page.evaluate(VISIBLE) == 11
    page.locator("#words").fill("BLUE")
    assert page.evaluate(VISIBLE) == 4
    assert page.locator("#count").inner_text() == "4 of 11 runs"
    assert page.evaluate("document.querySelectorAll('#plot path').length") == 4
    page.get_by_label("two", exact=True).check()
    assert page.evaluate(VISIBLE) == 2
    page.locator("[name=seed][value='1']").check()
    assert page.evaluate(VISIBLE) == 1
    page.locator("#words").fill("")
    page.locator("[name=method][value='1']").uncheck()
    page.locator("[name=seed][value='1']").uncheck()
    page.locator("[name=tag][value=good]").check()
    assert page.evaluate(VISIBLE) == 1
    page.locator("[name=tag][value=good]").uncheck()
    page.locator("[name=status][value=diverged]").check()
    tile = page.locator(".tile:not([hidden])")
    tile.focus()
    tile.press("Enter")
    until(page, "document.querySelector('#detail').open")
    assert "loss is NaN" in page.locator("#said .diagnosis").inner_text()
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail').open")
    page.locator("[name=status][value=diverged]").uncheck()
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.tile')[1]")
    page.keyboard.press("Enter")
    first = page.locator("#said").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#said").inner_text() != first
    closed(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_only_down(browser, page_file: Path, scheme: str) -> None:
    page = opened(browser, page_file, width=360)
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = [tile.bounding_box() for tile in page.locator(".tile").all()]
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
    closed(page)
