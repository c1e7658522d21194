"""The shipped multi-view prior from its configuration: a NeRF, a sheet, a check; cameras that do not fit are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run_dfw
from PIL import Image

import dfw
from dfw import ConfigError

SMALL = (
    *("trainer.steps=2", "trainer.preview_every=2", "trainer.preview_width=16", "cameras.width=16", "renderer.samples=16"),
    *("export.formats=[]", "export.turntable_frames=0", "device=cpu"),
)


def test_a_nerf_is_made_from_four_views_at_once(tmp_path: Path) -> None:
    run = dfw.run("mvdream", *SMALL, f"output={tmp_path}", listeners=[])
    assert run.status == "finished"
    assert [set(row["losses"]) >= {"mvdream", "opacity"} for row in run.metrics] == [True, True]
    assert run.metrics[0]["grad_norm"] > 0


def test_a_field_becomes_triangles_that_the_same_model_refines(tmp_path: Path) -> None:
    both = ("trainer.steps=2", "trainer.preview_every=2", "trainer.preview_width=16", "cameras.width=16", "device=cpu")
    short = [f"stages.{stage}.{option}" for stage in ("coarse", "refine") for option in both]
    small = ("stages.coarse.renderer.samples=16", "stages.refine.geometry.resolution=8")
    files = ("stages.refine.export.formats=[]", "stages.refine.export.turntable_frames=0")
    run = dfw.run("magic3d-mvdream", *short, *small, *files, f"output={tmp_path}", listeners=[])
    assert run.status == "finished"
    last = run.stages[-1]
    assert {"mvdream", "smooth", "even", "sign"} <= set(last.metrics[0]["losses"])
    assert last.metrics[0]["losses"]["mvdream"] > 0


def test_random_cameras_are_refused_with_the_line_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        dfw.run("mvdream", "cameras={type: random}", f"output={tmp_path}", listeners=[])
    said = str(caught.value)
    assert said.count("\n") == 0
    assert "sees 4 views of one scene at once, and these cameras give 1" in said
    assert said.endswith("make the two equal, e.g. cameras: {type: orthogonal, count: 4, batch_size: 4}")
    assert not list(tmp_path.iterdir())


def test_a_sheet_has_a_row_for_each_scene_and_a_column_for_each_view(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    code, _, _ = run_dfw("sample", "mvdream", "--count", "3", "--steps", "1", "--out", str(out), "device=cpu", capsys=capsys)
    assert code == 0
    with Image.open(out) as sheet:
        assert sheet.size == (4 * 64 + 3 * 2, 3 * 64 + 2 * 2)  # pictures of 64, gaps of 2


def test_the_prior_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--draws", "8", "--points", "2", "--out", str(tmp_path / "guidance.svg"))
    code, said, _ = run_dfw("guidance", "check", "mvdream", *options, "device=cpu", capsys=capsys)
    assert code == 0
    assert "no closed form for this guidance" in said
