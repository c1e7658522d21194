"""The viewer in a real browser: the picture turns with the mouse, and pause holds the step. Nothing comes from elsewhere."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browsers import browser, until
from command_line import fresh_plugins
from PIL import Image
from small_runs import SCENE, config

from dfw.plugins.listeners import load_plugin_file
from dfw.runs.runner import run
from dfw.viewer.door import Door
from dfw.viewer.found import runs_in
from dfw.viewer.live import LiveViewer
from dfw.viewer.opened import OpenedViewer

pytestmark = pytest.mark.browser
__all__ = ["browser"]

STRANGER = """
(address) => new Promise((done) => {
    const socket = new WebSocket(address, ["viser-v1.1.1"]);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})
"""


def picture(page) -> np.ndarray:
    """What the page shows left of its panel."""
    shot = Image.open(io.BytesIO(page.screenshot(clip={"x": 0, "y": 120, "width": 280, "height": 280})))
    return np.asarray(shot.convert("RGB")).astype(float)


def left(page) -> float:
    """How bright the left of the window is, below the browser's notice and next to the panel."""
    shot = page.screenshot(clip={"x": 0, "y": 200, "width": 180, "height": 80})
    return float(np.asarray(Image.open(io.BytesIO(shot)).convert("L")).mean())


def field(page, label: str) -> Callable[[], str]:
    """Reads a field of the panel."""
    return lambda: page.locator(f"xpath=//label[normalize-space()='{label}']/following::input[1]").input_value()


def test_a_run_is_watched_turned_paused_and_stopped(browser, tmp_path: Path) -> None:
    door, results = Door(port=0), []
    viewer = LiveViewer(door)
    made = config(SCENE, tmp_path, trainer={"steps": 100_000}, export={"formats": [], "turntable_frames": 0})
    thread = threading.Thread(target=lambda: results.append(run(made, listeners=[viewer])), daemon=True)
    thread.start()
    page = browser.new_page(viewport={"width": 640, "height": 480})
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(door.address)
    state = field(page, "State")
    until(page, lambda: state().startswith("step "), complaints)
    page.get_by_role("button", name="Pause").click()
    until(page, lambda: state().startswith("paused at step"), complaints)
    page.get_by_label("Picture", exact=True).click()
    page.get_by_role("option", name="opacity").click()
    until(page, lambda: picture(page).min() < 40, complaints)  # nothing is black
    paused, before = state(), picture(page)
    page.mouse.move(140, 260)
    page.mouse.down()
    page.mouse.move(160, 420, steps=4)
    page.mouse.wheel(0, 600)
    page.mouse.up()
    until(page, lambda: np.abs(picture(page) - before).mean() > 2, complaints)
    assert state() == paused
    page.get_by_role("button", name="Go on").click()
    until(page, lambda: state().startswith("step ") and state() != paused.removeprefix("paused at "), complaints)

    stranger = browser.new_page()
    address = f"ws://localhost:{door.port}/{door.token}"
    assert stranger.evaluate(STRANGER, address) == "refused"  # about:blank says Origin: null
    assert page.evaluate(STRANGER, address) == "open"
    stranger.close()

    page.get_by_role("button", name="Stop").click()
    thread.join(60)
    assert results[0].status == "interrupted"
    assert complaints == []
    own = (f"http://localhost:{door.port}/", f"ws://localhost:{door.port}/", "blob:", "data:")
    assert [url for url in asked if not url.startswith(own)] == []
    page.close()
    viewer.close()
    door.close()


def test_a_scene_that_moves_is_shown_at_the_moment_of_its_slider(browser, tmp_path: Path) -> None:
    """The ball leaves the left of the window, and comes back; a scene that stands still has no slider."""
    load_plugin_file(Path(__file__).parents[1] / "support" / "moving_field.py")
    still = config(SCENE, tmp_path, trainer={"steps": 1}, export={"formats": [], "turntable_frames": 0})
    parts = {"geometry": {"type": "local/rolling"}, "renderer": {"type": "local/shown"}}
    moving = config(SCENE | parts, tmp_path, trainer={"steps": 1}, export={"formats": [], "turntable_frames": 0})
    for name, made in (("a-moving", moving), ("b-still", still)):
        run(made, listeners=[], path=tmp_path / "runs" / name)
    door, ended = Door(port=0), threading.Event()
    viewer = OpenedViewer(door, runs_in(tmp_path / "runs"))
    thread = threading.Thread(target=viewer.serve, args=(ended.is_set,), daemon=True)
    thread.start()
    page = browser.new_page(viewport={"width": 640, "height": 480})
    page.goto(door.address)
    slider = page.get_by_role("slider").first
    try:
        until(page, lambda: page.get_by_text("Time", exact=True).is_visible() and left(page) > 200)
        slider.focus()
        page.keyboard.press("End")
        until(page, lambda: left(page) < 20)
        page.keyboard.press("Home")
        until(page, lambda: left(page) > 200)
        page.get_by_label("Show run", exact=True).click()
        page.get_by_role("option", name="b-still").click()
        until(page, lambda: not page.get_by_text("Time", exact=True).is_visible())
    finally:
        page.close()
        ended.set()
        thread.join(30)
        viewer.close()
        door.close()
        fresh_plugins()
