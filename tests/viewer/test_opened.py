"""Runs that are there already: opened without their prior, chosen from a list, followed while they grow, exported."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from small_runs import PIXELS, SCENE, config
from viewer_page import Page, until

import dfw
from dfw.cli.main import main
from dfw.errors import CheckpointError
from dfw.runs.runner import resume, run
from dfw.viewer import opened
from dfw.viewer.door import Door
from dfw.viewer.found import runs_in
from dfw.viewer.opened import OpenedViewer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs: of a scene in space, and of a plane."""
    root = tmp_path_factory.mktemp("study")
    for name, base in (("a-scene", SCENE), ("b-plane", PIXELS)):
        run(config(base, root, trainer={"steps": 2}, export={"turntable_frames": 0}), listeners=[], path=root / name)
    return root


@contextmanager
def shown(folder: Path) -> Iterator[Page]:
    """A page that looks at the runs in `folder`."""
    door, ended = Door(port=0), threading.Event()
    viewer = OpenedViewer(door, runs_in(folder))
    thread = threading.Thread(target=viewer.serve, args=(ended.is_set,), daemon=True)
    thread.start()
    page = Page(door.address, 32, 32)
    page.look(40.0, 15.0, 2.5)
    try:
        yield page
    finally:
        ended.set()
        page.close()
        thread.join(30)
        viewer.close()
        door.close()


def away(page: Page, azimuth: float, run: Path) -> float:
    """How far the last picture is from the run's own."""
    own = dfw.open(run).scene.render(azimuth=azimuth, elevation=15, distance=2.5, width=page.pictures[-1].shape[1])
    return float(np.abs(page.pictures[-1] / 255.0 - own.colours[0].numpy()).mean())


def forbidden(self, config):
    raise AssertionError("a viewer built a guidance")


def test_a_list_of_runs_without_their_prior(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dfw_guidance.gaussian.Gaussian.__init__", forbidden)
    with shown(folder) as page:
        until(lambda: page.pictures and page.pictures[-1].shape == (32, 32, 3))
        assert away(page, 40, folder / "a-scene") < 0.01  # JPEG
        assert page.value("Run") == "a red square (a-scene)"
        assert page.value("State") == "finished, step 2 of 2"
        assert page.parts[page.part("Show run")]["options"] == ["a-scene", "b-plane"]
        assert {"loss", "losses.sds", "opacity"} <= set(
            until(lambda: page.parts[page.part("Curve")]["options"][1:] and page.parts[page.part("Curve")]["options"])
        )
        assert not [one for one in page.parts.values() if one.get("label") in ("Pause", "Stop", "Ask the prior")]
        page.set("Show run", "../../etc")  # not one of them: the first is meant, which is open
        page.set("Show run", "b-plane")
        until(lambda: page.value("Run") == "a red square (b-plane)")
        until(lambda: page.pictures[-1].shape == (16, 16, 3) and away(page, 0, folder / "b-plane") < 0.2)  # JPEG of noise


def test_an_export_is_in_a_new_folder_of_the_run(folder: Path):
    before = set(folder.rglob("*"))
    with shown(folder / "a-scene") as page:
        page.set("Export", True)
        until(lambda: page.value("Last") == "wrote export-2/object.ply")
    new = {path for path in set(folder.rglob("*")) - before if not path.name.endswith(".tmp")}
    assert new == {folder / "a-scene" / "export-2", folder / "a-scene" / "export-2" / "object.ply"}


def test_a_run_that_goes_on_is_shown_at_its_newest_checkpoint(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opened, "TICK", 0.1)
    copy = Path(shutil.copytree(folder / "b-plane", tmp_path / "copy"))
    with shown(copy) as page:
        until(lambda: page.value("State") == "finished, step 2 of 2")
        resume(copy, ["trainer.steps=4"], listeners=[])
        until(lambda: page.value("State") == "finished, step 4 of 4")
        until(lambda: away(page, 0, copy) < away(page, 0, folder / "b-plane"))


def test_a_run_that_cannot_be_opened_is_a_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["view", str(tmp_path), "--view-port", "0"]) == 2
    shown_first, said = capsys.readouterr()
    assert f"{tmp_path}: holds no run; give the folder that `dfw run` or `dfw sweep` printed" in said
    assert shown_first == "", "an address at which nobody answers"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "resolved.yaml").write_text("geometry: 3\n")
    with pytest.raises(dfw.DfwError):
        OpenedViewer(Door(port=0), runs_in(broken))
    shutil.copytree(folder / "b-plane", tmp_path / "good")
    with shown(tmp_path) as page:  # one of two: the list stays usable
        until(lambda: page.value("Last"))
        page.set("Show run", "good")
        until(lambda: page.pictures)


def test_a_run_whose_scene_raises_anything_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    with shown(folder) as page:
        until(lambda: page.pictures)
        monkeypatch.setattr(opened, "reopen", full)
        page.set("Show run", "b-plane")
        until(lambda: page.value("Last") == "RuntimeError: out of memory")
        monkeypatch.undo()
        page.set("Show run", "a-scene")
        until(lambda: (page.value("Run") or "").endswith("(a-scene)"))


def test_stages_are_runs_of_the_list(tmp_path: Path, folder: Path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "stages.yaml").write_text("stages: {}\n")
    for name in ("1-coarse", "2-fine"):
        shutil.copytree(folder / "b-plane", tmp_path / "whole" / name)
    assert list(runs_in(tmp_path)) == ["whole/2-fine", "whole/1-coarse"]
    assert list(runs_in(folder / "a-scene")) == ["a-scene"]
    with pytest.raises(CheckpointError, match="holds no run"):
        runs_in(tmp_path / "nothing")
