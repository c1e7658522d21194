"""What a run leaves for Weights & Biases, offline, read back from its own records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tracked


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFW_TRACKERS", "wandb")
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ERROR_REPORTING", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


def folders(directory: Path) -> list[Path]:
    """wandb's folders of a run, in the order they were made."""
    return sorted((directory / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_mtime_ns)


def history(folder: Path) -> list[dict]:
    """The logged rows; media are mappings in them."""
    (file,) = folder.glob("*.wandb")
    rows: list[dict] = []
    for record in tracked.wandb_records(file):
        if record.HasField("history"):
            rows.append({})
            for item in record.history.item:
                *parents, name = item.nested_key or [item.key]
                place = rows[-1]
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[name] = json.loads(item.value_json)
    return rows


def header(folder: Path):
    (file,) = folder.glob("*.wandb")
    return next(record.run for record in tracked.wandb_records(file) if record.HasField("run"))


def test_an_interrupted_run_goes_on_under_one_name_at_the_right_step(tmp_path: Path) -> None:
    made = tracked.run_in_two(tmp_path)
    first, second = folders(made)
    rows = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    logged = [row for folder in (first, second) for row in history(folder) if "loss" in row]
    assert [row["_step"] for row in logged] == [row["step"] for row in rows] == list(range(tracked.STEPS))
    for ours, theirs in zip(logged, rows, strict=True):
        assert ours["loss"] == theirs["loss"]
        assert ours["losses/sds"] == theirs["losses"]["sds"]
        assert ours["opacity"] == theirs["opacity"]
        assert ours["seconds/render"] == theirs["seconds"]["render"]
    assert header(first).run_id == header(second).run_id
    assert header(second).project == "dfw"
    assert header(second).display_name == made.name
    assert all(
        row.keys() - {"_step", "_timestamp", "_runtime"} for folder in (first, second) for row in history(folder)
    )  # no empty rows
    shown = [(row["_step"], row["preview"]) for folder in (first, second) for row in history(folder) if "preview" in row]
    assert [at for at, _ in shown] == [0, 3, 6]
    for (at, media), folder in zip(shown, (first, first, second), strict=True):
        picture = folder / "files" / media["filenames"][0]
        assert picture.read_bytes() == (made / "images" / f"step-{at:06d}.png").read_bytes()


def test_artifacts_and_outcome_are_kept_in_the_folder(tmp_path: Path) -> None:
    made = tracked.run_once(tmp_path)
    (folder,) = folders(made)
    copy = folder / "files" / "report.html"
    assert copy.read_bytes() == (made / "report.html").read_bytes()
    assert not copy.is_symlink()
    (file,) = folder.glob("*.wandb")
    records = tracked.wandb_records(file)
    saved = [item.path for record in records if record.HasField("files") for item in record.files.files]
    assert "report.html" in saved
    summary = {
        item.key or item.nested_key[0]: item.value_json for r in records if r.HasField("summary") for item in r.summary.update
    }
    assert summary["status"] == '"finished"'
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    settings = {item.key: json.loads(item.value_json) for item in header(folder).config.update}
    assert settings["prompt"] == "grey"
    assert settings["trainer"]["steps"] == tracked.STEPS


def test_turntable_and_mesh_can_be_looked_at(tmp_path: Path) -> None:
    import trimesh
    from dreamfw_trackers.wandb import WeightsAndBiases
    from PIL import Image

    from dfw import RunEnded

    frames = [Image.new("RGB", (6, 4), (60 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / "turn.webp", save_all=True, append_images=frames[1:], duration=40)
    trimesh.creation.box().export(tmp_path / "object.glb")
    one = WeightsAndBiases()
    one.dfw_run_started(tracked.started(tmp_path))
    one.dfw_run_ended(RunEnded(tmp_path, "diverged", 2.0, {"turntable": tmp_path / "turn.webp", "glb": tmp_path / "object.glb"}))
    (folder,) = folders(tmp_path)
    (row,) = [row for row in history(folder) if "mesh" in row]
    assert (folder / "files" / row["mesh"]["path"]).read_bytes() == (tmp_path / "object.glb").read_bytes()
    with Image.open(folder / "files" / row["turntable"]["path"]) as moving:
        assert (moving.format, moving.n_frames) == ("GIF", 3)
    (file,) = folder.glob("*.wandb")
    assert [record.exit.exit_code for record in tracked.wandb_records(file) if record.HasField("exit")] == [1]


def test_a_turntable_of_frames_is_kept_frame_by_frame(tmp_path: Path) -> None:
    from dreamfw_trackers.wandb import WeightsAndBiases

    from dfw import RunEnded

    frames = tmp_path / "export" / "turntable"
    frames.mkdir(parents=True)
    for number in range(3):
        (frames / f"{number}.png").write_bytes(bytes([number]))
    one = WeightsAndBiases()
    one.dfw_run_started(tracked.started(tmp_path))
    one.dfw_run_ended(RunEnded(tmp_path, "finished", 2.0, {"turntable": frames}))
    (folder,) = folders(tmp_path)
    kept = folder / "files" / "export" / "turntable"
    assert [(kept / f"{number}.png").read_bytes() for number in range(3)] == [bytes([number]) for number in range(3)]
    (file,) = folder.glob("*.wandb")
    records = tracked.wandb_records(file)
    saved = {item.path for record in records if record.HasField("files") for item in record.files.files}
    assert {f"export/turntable/{number}.png" for number in range(3)} <= saved
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]


def test_the_runs_of_a_sweep_are_a_group(tmp_path: Path) -> None:
    from dreamfw_trackers.wandb import WeightsAndBiases

    from dfw import RunEnded

    for name, sweep in (("one", "guidance"), ("alone", "")):
        (tmp_path / name).mkdir()
        one = WeightsAndBiases()
        one.dfw_run_started(replace(tracked.started(tmp_path / name), sweep=sweep))
        one.dfw_run_ended(RunEnded(tmp_path / name, "finished", 2.0, {}))
        (folder,) = folders(tmp_path / name)
        assert header(folder).run_group == sweep


def test_nothing_is_reported_home_unless_the_user_asks(tmp_path: Path) -> None:
    """wandb's error reports and telemetry do not follow its mode; offline they are off before it is imported."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import tracked, pathlib; tracked.run_once(pathlib.Path(sys.argv[2]));"
    code += "from wandb.env import error_reporting_enabled as on; print('reports', on())"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_ERROR_REPORTING"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.split()[-2:] == ["reports", "False"]
    assert "wandb" not in said.stderr
