"""Turntables and picture grids, read back by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from dfw.errors import ExportError
from dfw.export import save_grid, save_turntable
from dfw.export.pictures import GAP


def grey(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 8, 6, 3)


def test_turntable_loops_and_takes_its_time(tmp_path: Path) -> None:
    path = save_turntable(grey(0.0, 0.3, 0.6, 0.9), tmp_path / "new" / "turn.webp", seconds=2.0)
    with Image.open(path) as image:
        assert image.format == "WEBP"
        assert image.n_frames == 4
        assert image.size == (6, 8)
        assert image.info["loop"] == 0
        frames = [
            (np.asarray(frame.convert("L")).mean() / 255, frame.info["duration"]) for frame in ImageSequence.Iterator(image)
        ]
    assert [round(grey, 1) for grey, _ in frames] == [0.0, 0.3, 0.6, 0.9]
    assert {duration for _, duration in frames} == {500}


def test_grid_puts_pictures_in_reading_order(tmp_path: Path) -> None:
    path = save_grid(grey(0.0, 0.2, 0.4, 0.6, 0.8), tmp_path / "grid.png", columns=3)
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet.shape == (2 * 8 + GAP, 3 * 6 + 2 * GAP, 3)
    for index, value in enumerate((0.0, 0.2, 0.4, 0.6, 0.8)):
        top, left = index // 3 * (8 + GAP), index % 3 * (6 + GAP)
        assert (sheet[top : top + 8, left : left + 6] == round(value * 255)).all()
    assert (sheet[:, 6 : 6 + GAP] == 255).all()
    assert (sheet[8 + GAP :, 2 * (6 + GAP) :] == 255).all()


def test_up_to_eight_stand_in_one_row(tmp_path: Path) -> None:
    assert Image.open(save_grid(grey(*[0.5] * 8), tmp_path / "a.png")).size == (8 * 6 + 7 * GAP, 8)
    assert Image.open(save_grid(grey(*[0.5] * 9), tmp_path / "b.png")).size == (8 * 6 + 7 * GAP, 16 + GAP)


def test_values_outside_are_clipped_and_rounded(tmp_path: Path) -> None:
    sheet = np.asarray(Image.open(save_grid(grey(-1.0, 2.0, 0.505), tmp_path / "grid.png")))
    assert [sheet[0, 0, 0], sheet[0, 6 + GAP, 0], sheet[0, 2 * (6 + GAP), 0]] == [0, 255, 129]  # 0.505 * 255 = 128.8


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="NaN or infinity"):
        save_grid(grey(0.5, float("nan")), tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())


def test_no_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="turntable_frames above 0"):
        save_turntable(torch.zeros(0, 8, 8, 3), tmp_path / "turn.webp")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot write .*turn\.webp.*choose another"):
        save_turntable(grey(0.1), tmp_path / "file" / "turn.webp")
