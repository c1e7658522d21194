"""The report in a real browser, from disk: the viewer draws the object, nothing is fetched from elsewhere, nothing complains."""

from __future__ import annotations

import io
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from browsers import browser, closed, listened, opened, until
from export_fields import Analytic, box, exporters, plain, ring, sphere_opacity
from PIL import Image

from dfw.config.schedules import Progress
from dfw.config.settings import ExportSettings
from dfw.export.pictures import save_grid, save_turntable
from dfw.export.pipeline import export_mesh
from dfw.report import ReportData, write, write_report

pytestmark = pytest.mark.browser
__all__ = ["browser"]

GREEN = (0.1, 0.8, 0.1)
PROMPT = "a green box <script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
LISTEN = "document.addEventListener('load', (e) => { if (e.target.id === 'viewer') window.viewerLoaded = true; }, true);"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("a run # with odd ? name")
    field = Analytic(box((0.5, 0.5, 0.5)), plain(GREEN), 100.0, 0.0)
    cameras = ring(2)
    settings = ExportSettings(resolution=32, faces=1000, texture=64, level=50.0)
    exported = export_mesh(field, sphere_opacity(cameras, 0.6), cameras, settings, exporters("glb"), directory / "export")
    frames = torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    previews = [(step, save_grid(frames, directory / f"step-{step}.png")) for step in (0, 10)]
    turntable = save_turntable(frames, directory / "export" / "turntable.webp")
    rows = [{"step": step, "loss": 1 / (1 + step), "seconds": {"render": 0.1}} for step in range(30)]
    return write_report(
        directory,
        ReportData(
            prompt=PROMPT,
            seed=0,
            status="finished",
            seconds=5.0,
            artifacts={**exported.paths, "turntable": turntable},
            metrics=rows,
            previews=previews,
            resolved_config="seed: 0",
            manifest={"versions": {"dfw": "0.1.0"}},
            facts=exported.facts(),
        ),
    )


def test_the_object_turns_in_the_browser(browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme="light")
    listened(page)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.add_init_script(LISTEN)
    page.goto(report.as_uri())
    until(page, "window.viewerLoaded === true", page.complaints)
    page.wait_for_timeout(1000)
    picture = np.asarray(Image.open(io.BytesIO(page.locator("#viewer").screenshot())).convert("RGB")).astype(float)
    greenish = (picture[..., 1] > 1.5 * picture[..., 0]) & (picture[..., 1] > 1.5 * picture[..., 2])
    assert picture.std() > 10, "the canvas is blank"
    assert 0.1 < greenish.mean() < 0.9, f"{greenish.mean():.2f} of the view is green"
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == PROMPT
    assert page.evaluate("Array.from(document.images).every((image) => image.complete && image.naturalWidth > 0)")
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [url for url in requests if url.startswith("file:")] == [report.as_uri()]
    closed(page)


def test_a_video_plays_and_stages_can_be_followed(browser, tmp_path: Path) -> None:
    frames = torch.rand(8, 32, 48, 3, generator=torch.Generator().manual_seed(0))
    turntable = save_turntable(frames, tmp_path / "2-b" / "turntable.mp4", seconds=0.8)
    (tmp_path / "1-a").mkdir()
    write_report(tmp_path / "1-a", ReportData("first", 0, "finished", 1.0))
    links = {"Stage 1-a": "../1-a/report.html"}
    data = ReportData("a box", 0, "finished", 5.0, artifacts={"turntable": turntable}, links=links)
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    listened(page)
    page.goto(write_report(turntable.parent, data).as_uri())
    until(page, "document.querySelector('video').currentTime > 0.1")
    assert page.evaluate("[document.querySelector('video').videoWidth, document.querySelector('video').videoHeight]") == [48, 32]
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(0.8, abs=0.01)
    page.get_by_role("link", name="Stage 1-a").click()
    until(page, "document.querySelector('h1').innerText === 'first'")
    closed(page)


def test_the_curves_answer_pointer_and_keys(browser, tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1 / (1 + step)} for step in range(30)]
    page = opened(browser, write_report(tmp_path, ReportData("a box", 0, "interrupted", 5.0, metrics=rows)))
    chart = page.locator("svg[data-points]").first
    output = page.locator(".chart output").first
    chart.focus()
    assert output.inner_text() == "step 29: 0.033333"
    chart.press("ArrowLeft")
    assert output.inner_text() == "step 28: 0.034483"
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 66 / 360, box["y"] + box["height"] / 2)
    assert output.inner_text() == "step 0: 1"
    page.mouse.move(0, 0)
    assert output.inner_text() == ""
    closed(page)


def test_the_page_of_a_run_that_goes_on_renews_itself_until_it_ends(browser, tmp_path: Path, monkeypatch) -> None:
    """The reader keeps his place on the page, and what he has unfolded."""
    monkeypatch.setattr(write, "RENEW", 1)
    rows = [{"step": step, "loss": 1 / (1 + step), "opacity": step / 30} for step in range(30)]

    def written(status: str, going: Progress | None) -> Path:
        data = ReportData("a box", 0, status, 5.0, metrics=rows, resolved_config="seed: 0\n" * 90, going=going)
        return write_report(tmp_path, data)

    page = opened(browser, written("running", Progress(10, 30)))
    page.locator("summary").first.click()
    until(page, "scrollTo(0, 300) || true")  # the page may just load itself again
    written("running", Progress(20, 30))
    until(page, "document.querySelector('.facts').innerText.includes('step 20 of 30')")
    until(page, "scrollY === 300 && document.querySelector('details').open")
    written("finished", None)
    until(page, "document.querySelector('.badge').innerText === 'finished'")
    until(page, "scrollY === 300 && document.querySelector('details').open")
    page.evaluate("window.stays = true")
    page.wait_for_timeout(1500)
    assert page.evaluate("window.stays") is True
    closed(page)


def test_the_page_of_a_run_that_was_killed_stops_renewing_itself(browser, tmp_path: Path, monkeypatch) -> None:
    """It was written an hour ago, twenty times as long as between two previews."""
    monkeypatch.setattr(write, "RENEW", 1)
    rows = [{"step": step, "loss": 1.0} for step in range(3)]
    path = write_report(tmp_path, ReportData("a box", 0, "running", 5.0, metrics=rows, going=Progress(3, 30)))
    page = opened(browser, path)
    assert page.locator("#silent").is_hidden()
    then = datetime.now().astimezone() - timedelta(hours=1)
    text = re.sub(r'datetime="[^"]+"', f'datetime="{then.isoformat()}"', path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    until(page, "document.querySelector('.facts').innerText.includes('its process may have been killed')")
    page.evaluate("window.stays = true")
    page.wait_for_timeout(1500)
    assert page.evaluate("window.stays") is True
    closed(page)


def test_a_narrow_screen_scrolls_only_down_and_can_be_read(browser, report: Path) -> None:
    page = opened(browser, report, width=360)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#viewer").bounding_box()["height"] > 250
    papers = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert _contrast(paper, page.evaluate("getComputedStyle(document.body).color")) > 7  # WCAG 2.2, level AAA
        papers.add(paper)
    assert len(papers) == 2
    closed(page)


def test_on_paper_everything_is_there(browser, report: Path) -> None:
    """A print shows a still of the object, opens what is folded, and keeps the colours. Afterwards all is as before."""
    page = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme="dark")
    listened(page)
    page.add_init_script(LISTEN)
    page.goto(report.as_uri())
    until(page, "window.viewerLoaded === true")
    folded = page.locator("details:not([open])").count()
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert folded > 0
    assert page.locator("details:not([open])").count() == 0
    still = page.locator(".view img").first
    assert str(still.get_attribute("src")).startswith("data:image/png;base64,")
    assert still.get_attribute("alt") == f"3D model: {PROMPT}"
    assert not page.locator("#viewer").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.bar span')).printColorAdjust") == "exact"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded
    assert page.locator("#viewer").is_visible()
    closed(page)


@pytest.mark.parametrize("width", [375, 1280])
def test_every_preview_is_visible_without_scrolling_sideways(browser, report: Path, width: int) -> None:
    page = opened(browser, report, width)
    for image in page.locator(".previews img").all():
        box = image.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert page.evaluate(
        "Array.from(document.querySelectorAll('*')).every((one) => getComputedStyle(one).overflowX !== 'scroll')"
    )
    closed(page)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two css rgb() colours."""

    def luminance(colour: str) -> float:
        channels = np.array([float(word) for word in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
