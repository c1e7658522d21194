"""What a run leaves for TensorBoard, read back with TensorBoard's own reader."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tracked
from dreamfw_trackers import tensorboard
from PIL import Image

from dfw import Progress, RunEnded, StepEnded


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFW_TRACKERS", "tensorboard")


def metrics_of(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("in_two", [False, True])
def test_every_number_of_every_step_is_there_once(tmp_path: Path, in_two: bool) -> None:
    """The same numbers as in metrics.jsonl, interrupted or not."""
    made = tracked.run_in_two(tmp_path) if in_two else tracked.run_once(tmp_path)
    read, rows = tracked.tensorboard_of(made), metrics_of(made)
    assert len(list((made / "tensorboard").iterdir())) == 1 + in_two

    def column(tag: str) -> list[tuple[int, float]]:
        return [(event.step, pytest.approx(event.value, rel=1e-5)) for event in read.Scalars(tag)]

    assert column("loss") == [(row["step"], row["loss"]) for row in rows]
    assert column("losses/sds") == [(row["step"], row["losses"]["sds"]) for row in rows]
    for name in ("opacity", "lr", "grad_norm"):
        assert column(name) == [(row["step"], row[name]) for row in rows]
    assert column("seconds/render") == [(row["step"], row["seconds"]["render"]) for row in rows]
    assert len(rows) == tracked.STEPS


def test_what_a_component_reports_of_itself_is_tracked_by_its_name(tmp_path: Path) -> None:
    """The adapter's error of a `vsd` loss: the same numbers as in metrics.jsonl, a dot of the name as a slash."""
    made = tracked.run_once(tmp_path, "losses.vsd={type: dreamfw/vsd, guidance_scale: 1}")
    found = [(event.step, event.value) for event in tracked.tensorboard_of(made).Scalars("losses/vsd/adapter")]
    expected = [(row["step"], pytest.approx(row["losses.vsd.adapter"], rel=1e-5)) for row in metrics_of(made)]
    assert found == expected
    assert len(found) == tracked.STEPS


def test_previews_are_the_files_at_their_steps(tmp_path: Path) -> None:
    made = tracked.run_once(tmp_path)
    shown = tracked.tensorboard_of(made).Images("preview")
    assert [event.step for event in shown] == [0, 3, 6]
    for event in shown:
        with Image.open(made / "images" / f"step-{event.step:06d}.png") as file:
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), np.asarray(file.convert("RGB")))


def step(number: int, loss: float) -> StepEnded:
    return StepEnded(Progress(number, 6), loss, {}, {})


def test_what_a_killed_process_wrote_beyond_the_checkpoint_is_void(tmp_path: Path) -> None:
    killed, again = tensorboard.TensorBoard(), tensorboard.TensorBoard()
    killed.dfw_run_started(tracked.started(tmp_path))
    for number in range(5):
        killed.dfw_step_ended(step(number, 1.0))
    killed._writer.flush()  # and never closed
    again.dfw_run_started(tracked.started(tmp_path, first_step=2))
    for number in range(2, 6):
        again.dfw_step_ended(step(number, 2.0))
    again.dfw_run_ended(RunEnded(tmp_path, "finished", 1.0, {}))
    losses = tracked.tensorboard_of(tmp_path).Scalars("loss")
    assert [(event.step, event.value) for event in losses] == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2)]


def test_the_sweep_is_a_column_by_which_runs_are_filtered(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    one = tensorboard.TensorBoard()
    one.dfw_run_started(replace(tracked.started(tmp_path), sweep="guidance"))
    one.dfw_run_ended(RunEnded(tmp_path, "finished", 1.0, {}))
    metadata = tracked.tensorboard_of(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    columns = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert (columns["sweep"].string_value, columns["prompt"].string_value) == ("guidance", "grey")


def test_the_turntable_moves_and_the_mesh_has_its_colours(tmp_path: Path) -> None:
    import trimesh

    frames = [Image.new("RGB", (6, 4), (60 * k, 0, 0)) for k in range(4)]
    frames[0].save(tmp_path / "turn.webp", save_all=True, append_images=frames[1:], duration=40, lossless=True)
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.tile(np.array([[10, 20, 30, 255]], dtype=np.uint8), (len(box.vertices), 1))
    box.export(tmp_path / "object.ply")
    one = tensorboard.TensorBoard()
    one.dfw_run_started(tracked.started(tmp_path))
    one.dfw_run_ended(RunEnded(tmp_path, "finished", 1.0, {"turntable": tmp_path / "turn.webp", "ply": tmp_path / "object.ply"}))
    read = tracked.tensorboard_of(tmp_path)
    (event,) = read.Images("turntable")
    assert (event.step, event.width, event.height) == (6, 6, 4)
    with Image.open(io.BytesIO(event.encoded_image_string)) as moving:
        assert (moving.format, moving.n_frames) == ("GIF", 4)
        moving.seek(3)
        assert abs(moving.convert("RGB").getpixel((0, 0))[0] - 180) < 8
    from tensorboard.util.tensor_util import make_ndarray

    arrays = {tag: make_ndarray(read.Tensors(tag)[0].tensor_proto) for tag in read.Tags()["tensors"] if tag.startswith("mesh")}
    assert {array.shape for array in arrays.values()} == {(1, 8, 3), (1, 12, 3)}
    assert any(np.array_equal(array, np.tile([[[10, 20, 30]]], (1, 8, 1))) for array in arrays.values())
    assert b"`%s`" % str(tmp_path / "turn.webp").encode() in make_ndarray(read.Tensors("result/text_summary")[0].tensor_proto)[0]


@pytest.mark.parametrize("name", ["turntable", "turntable.mp4"])
def test_a_turntable_that_is_no_animation_is_named_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    """A folder of frames, and a film: neither is a picture that TensorBoard could show."""
    import trimesh

    turntable = tmp_path / name
    if turntable.suffix:
        turntable.write_bytes(b"a film")
    else:
        turntable.mkdir()
    trimesh.creation.box().export(tmp_path / "object.ply")
    one = tensorboard.TensorBoard()
    one.dfw_run_started(tracked.started(tmp_path))
    one.dfw_run_ended(RunEnded(tmp_path, "finished", 1.0, {"turntable": turntable, "ply": tmp_path / "object.ply"}))
    tags = tracked.tensorboard_of(tmp_path).Tags()
    assert "turntable" not in tags["images"]
    assert any(tag.startswith("mesh") for tag in tags["tensors"])
