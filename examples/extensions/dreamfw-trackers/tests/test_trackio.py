"""What a run leaves for Trackio, read back from its own storage."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import tracked

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio ")  # it looks there when it is imported
pytest.importorskip("trackio", reason="trackio is not installed: 0.43 asks for pillow<13, and these tests run with 13")

from dreamfw_trackers.trackio import Trackio
from trackio.sqlite_storage import SQLiteStorage

from dfw import RunEnded


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A project of its own for each test."""
    monkeypatch.setenv("DFW_TRACKERS", "trackio")
    monkeypatch.setenv("TRACKIO_PROJECT", tmp_path.name)
    return tmp_path.name


def test_an_interrupted_run_goes_on_under_one_name_at_the_right_step(
    tmp_path: Path, project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tracked.run_in_two(tmp_path)
    (name,) = SQLiteStorage.get_runs(project)
    assert name.startswith(made.name)
    logged = SQLiteStorage.get_logs(project, name)
    rows = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in logged if "loss" in row]
    assert [row["step"] for row in losses] == [row["step"] for row in rows] == list(range(tracked.STEPS))
    for ours, theirs in zip(losses, rows, strict=True):
        assert ours["loss"] == theirs["loss"]
        assert ours["losses/sds"] == theirs["losses"]["sds"]
        assert ours["seconds/render"] == theirs["seconds"]["render"]
    assert [row["step"] for row in logged if "preview" in row] == [0, 3, 6]
    assert [row["status"] for row in logged if "status" in row] == ["interrupted", "finished"]
    assert SQLiteStorage.get_run_config(project, name)["trainer"]["steps"] == tracked.STEPS
    assert "rackio" not in capsys.readouterr().out


def test_turntable_and_mesh_can_be_looked_at_and_a_sweep_is_a_group(tmp_path: Path, project: str) -> None:
    import trimesh
    from PIL import Image

    frames = [Image.new("RGB", (6, 4), (60 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / "turn.webp", save_all=True, append_images=frames[1:], duration=40)
    trimesh.creation.box().export(tmp_path / "object.glb")
    one = Trackio()
    one.dfw_run_started(replace(tracked.started(tmp_path), sweep="guidance"))
    one.dfw_run_ended(RunEnded(tmp_path, "diverged", 2.0, {"turntable": tmp_path / "turn.webp", "glb": tmp_path / "object.glb"}))
    (name,) = SQLiteStorage.get_runs(project)
    (row,) = SQLiteStorage.get_logs(project, name)
    kept = Path(os.environ["TRACKIO_DIR"]) / "media"
    assert (kept / row["mesh"]["file_path"]).read_bytes() == (tmp_path / "object.glb").read_bytes()
    with Image.open(kept / row["turntable"]["file_path"]) as moving:
        assert (moving.format, moving.n_frames) == ("GIF", 3)
    assert SQLiteStorage.get_run_config(project, name)["_Group"] == "guidance"
