"""A run that somebody watches: the same bits, pause and stop, export and questions, and no work when nobody looks."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_runs import PIXELS, SCENE, config
from viewer_page import Page, until

from dfw import hookimpl
from dfw.config.settings import RunConfig
from dfw.runs.drive import MEASURED, RunResult
from dfw.runs.runner import resume, run
from dfw.viewer.door import Door
from dfw.viewer.live import LiveViewer
from dfw.viewer.panel import STOP

STEPS = 5


class At:
    """A listener that does something once, before the viewer is lent the scene of a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.at, self.action, self.scene, self.lent = step, action, None, 0

    @hookimpl
    def dfw_scene_lent(self, scene, controls) -> None:
        self.scene, self.lent = scene, self.lent + 1
        if scene.step == self.at:
            self.action()


@contextmanager
def watched() -> Iterator[tuple[LiveViewer, Page]]:
    """A viewer and a page that looks."""
    door = Door(port=0)
    viewer = LiveViewer(door)
    page = Page(door.address, 48, 48)
    page.look(0)
    until(lambda: len(viewer._guests))
    try:
        yield viewer, page
    finally:
        viewer._wishes.add(STOP)  # where a test failed in a pause
        page.close()
        viewer.close()
        door.close()


def asks(viewer: LiveViewer, page: Page, label: str) -> Callable[[], None]:
    """Presses a button of the page, and waits until the viewer has heard it."""

    def press() -> None:
        page.set(label, True)
        until(lambda: viewer._wishes._asked)

    return press


def bits(directory: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The newest checkpoint's tensors, and the rows without what the machine decides."""
    newest = sorted((directory / "checkpoints").iterdir())[-1]
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    unmeasured = [{key: value for key, value in row.items() if key not in (*MEASURED, "run", "crc32")} for row in rows]
    return {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}, unmeasured


def scene_config(folder: Path) -> RunConfig:
    return config(SCENE, folder, trainer={"steps": STEPS, "ema": 0.9}, export={"turntable_frames": 0})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(scene_config(tmp_path_factory.mktemp("alone")), listeners=[]).directory


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run that is paused before step 2, looked at from two sides, exported, asked about, and goes on."""
    folder, seen, results = tmp_path_factory.mktemp("watched"), SimpleNamespace(), []
    with watched() as (viewer, page):
        press, expected = asks(viewer, page, "Pause"), {}

        def pause() -> None:  # in the run's thread: a scene is not rendered by two at once
            for azimuth, distance in ((0.0, 2.2), (90.0, 4.0)):
                picture = gate.scene.render(azimuth=azimuth, elevation=20.0, distance=distance, width=48)
                expected[azimuth] = (picture.colours[0].numpy(), picture.render.opacity[0].numpy())
            press()

        def last(wanted: np.ndarray) -> np.ndarray:
            """The picture of full size, once it has come: a quick one, or one from the side before, may come first."""

            def arrived() -> list[np.ndarray]:
                newest = [one / 255.0 if wanted.ndim == 3 else one[..., 0] / 255.0 for one in page.pictures[-1:]]
                return [one for one in newest if one.shape == wanted.shape and np.abs(one - wanted).mean() < 0.02]

            return until(arrived)[0]

        gate = At(2, pause)
        thread = threading.Thread(target=lambda: results.append(run(scene_config(folder), listeners=[gate, viewer])), daemon=True)
        thread.start()
        until(lambda: "paused" in (page.value("State") or ""))
        began = time.monotonic()
        (seen.directory,) = (folder / "runs").glob("*/*")
        seen.state, lent = page.value("State"), gate.lent
        seen.status = json.loads((seen.directory / "status.json").read_text())
        seen.pictures = {}
        for azimuth, distance in ((0.0, 2.2), (90.0, 4.0)):
            page.look(azimuth, 20.0, distance)
            seen.pictures[azimuth] = (last(expected[azimuth][0]), expected[azimuth][0])
        page.set("Picture", "opacity")
        seen.opacity = (last(expected[90.0][1]), expected[90.0][1])
        seen.files = set(folder.rglob("*"))
        page.set("Export", True)
        seen.exported = until(lambda: page.value("Last") if "wrote" in (page.value("Last") or "") else "")
        seen.files = set(folder.rglob("*")) - seen.files
        page.set("Ask the prior", True)
        until(lambda: "answered" in (page.value("Last") or ""))
        guess = page.part("Its denoised guess")
        seen.guess = until(lambda: page.parts[guess].get("_data"))
        page.set("Cameras of the step", True)
        seen.frusta = until(lambda: set(page.frusta))
        seen.stood_still = gate.lent == lent and "paused at step 2" in page.value("State")
        seen.paused = time.monotonic() - began
        page.set("Go on", True)
        thread.join(60)
        seen.last_label = page.parts[page.part("Pause")]["label"]
    (seen.result,) = results
    return seen


def test_a_run_has_the_same_bits_whatever_is_looked_at_asked_and_exported(alone: Path, story: SimpleNamespace):
    assert story.result.status == "finished"
    assert bits(story.directory) == bits(alone)


def test_pause_holds_the_step_and_go_on_goes_on(story: SimpleNamespace):
    assert story.state == f"paused at step 2 of {STEPS}, {story.state.rpartition(', ')[2]}"
    assert story.stood_still
    assert story.last_label == "Pause"
    assert (story.status["status"], story.status["step"]) == ("running", 2)


def test_a_pause_is_not_time_of_the_steps(story: SimpleNamespace):
    times = json.loads((story.directory / "status.json").read_text())["times"]
    assert times["paused"] + times["mesh"] >= story.paused - 0.5
    assert "paused" in (story.directory / "report.html").read_text()


@pytest.mark.parametrize("azimuth", [0.0, 90.0])
def test_pictures_are_the_scene_from_where_the_camera_stands(story: SimpleNamespace, azimuth: float):
    shown, expected = story.pictures[azimuth]
    assert np.abs(shown - expected).mean() < 0.01  # JPEG
    assert np.abs(story.pictures[0.0][0] - story.pictures[90.0][0]).mean() > 0.02
    assert np.abs(story.opacity[0] - story.opacity[1]).mean() < 0.02


def test_an_export_is_in_a_new_folder_of_the_run(story: SimpleNamespace):
    assert story.exported == "wrote export-step-000002/object.ply"
    folder = story.directory / "export-step-000002"
    assert {path for path in story.files if path.suffix not in (".log", ".tmp")} == {folder, folder / "object.ply"}


def test_the_cameras_of_the_step_and_the_guess_of_the_prior_are_shown(story: SimpleNamespace):
    assert story.frusta == {"/cameras/0", "/cameras/1"}
    assert story.guess[:2] == b"\xff\xd8"  # a JPEG


def test_stop_is_ctrl_c_and_the_run_can_be_resumed(tmp_path: Path):
    whole = run(config(PIXELS, tmp_path), listeners=[])
    with watched() as (viewer, page):
        stopped = run(config(PIXELS, tmp_path), listeners=[At(2, asks(viewer, page, "Stop")), viewer])
    assert (stopped.status, stopped.signal) == ("interrupted", signal.SIGINT)
    assert json.loads((stopped.directory / "status.json").read_text())["step"] == 2
    assert resume(stopped.directory, listeners=[]).status == "finished"
    assert bits(stopped.directory) == bits(whole.directory)


def test_a_paused_run_answers_ctrl_c(tmp_path: Path):
    with watched() as (viewer, page):

        def press() -> None:
            until(lambda: "paused" in (page.value("State") or ""))
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        stopped: RunResult = run(config(PIXELS, tmp_path), listeners=[At(3, asks(viewer, page, "Pause")), viewer])
        thread.join()
    assert (stopped.status, stopped.signal) == ("interrupted", signal.SIGINT)
    assert [path.name for path in (stopped.directory / "checkpoints").iterdir()] == ["step-000003"]


def test_a_guidance_that_raises_when_it_is_asked_is_a_sentence_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    with watched() as (viewer, page):
        press = asks(viewer, page, "Ask the prior")

        def ask() -> None:
            monkeypatch.setattr("dfw_guidance.gaussian.Gaussian.decode_image", broken)
            press()

        result = run(config(PIXELS, tmp_path), listeners=[At(2, ask), viewer])
        until(lambda: page.value("Last") == "RuntimeError: out of memory")
    assert result.status == "finished"


def test_ctrl_c_ends_an_export_and_the_step_s_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ended: list[bool] = []

    def endless(*_: object) -> dict[str, Path]:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        finally:
            ended.append(True)
        return {}

    monkeypatch.setattr("dfw.runs.controls.export_all", endless)
    with watched() as (viewer, page):
        stopped = run(config(PIXELS, tmp_path), listeners=[At(3, asks(viewer, page, "Export")), viewer])
    assert ended == [True]
    assert (stopped.status, stopped.signal) == ("interrupted", signal.SIGINT)
    assert [path.name for path in (stopped.directory / "checkpoints").iterdir()] == ["step-000003"]


def test_nothing_is_drawn_and_nothing_is_sent_when_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: object) -> None:
        raise AssertionError("it worked for nobody")

    door = Door(port=0)
    viewer = LiveViewer(door)
    monkeypatch.setattr("dfw.viewer.guests.see", forbidden)
    monkeypatch.setattr(viewer._panel, "draw", forbidden)
    sent: list[int] = []
    gates = [
        At(step, lambda: sent.append(len(viewer._server._websock_server._broadcast_buffer.message_from_id))) for step in (1, 5)
    ]
    before = set(threading.enumerate())
    result = run(config(PIXELS, tmp_path), listeners=[*gates, viewer])
    assert result.status == "finished"
    assert sent[0] == sent[1]
    assert set(threading.enumerate()) <= before
    assert viewer._lent > 0
    viewer.close()
    door.close()


def test_a_question_before_the_first_step_is_answered_with_a_sentence(tmp_path: Path):
    with watched() as (viewer, page):
        run(config(PIXELS, tmp_path), listeners=[At(0, asks(viewer, page, "Ask the prior")), viewer])
        until(lambda: "ask again after the first step" in (page.value("Last") or ""))


def test_what_cannot_be_exported_is_a_sentence_and_the_run_goes_on(tmp_path: Path):
    with watched() as (viewer, page):
        result = run(config(PIXELS, tmp_path), listeners=[At(1, asks(viewer, page, "Export")), viewer])
        until(lambda: "nothing to write" in (page.value("Last") or ""))
    assert result.status == "finished"
