"""Turntables and picture grids, read back by Pillow and by PyAV."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from dfw.errors import ExportError
from dfw.export.pictures import GAP, save_grid, save_turntable


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


def test_a_gif_loops_and_keeps_every_frame(tmp_path: Path) -> None:
    """Equal neighbours too, which Pillow would join; a frame takes whole hundredths of a second."""
    path = save_turntable(grey(0.0, 0.6, 0.6, 0.6, 1.0, 0.0, 0.0), tmp_path / "turn.gif", seconds=1.0)
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.size, image.info["loop"]) == ("GIF", 7, (6, 8), 0)
        shown = [(np.asarray(frame.convert("L")).mean() / 255, frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert [value for value, _ in shown] == pytest.approx([0.0, 0.6, 0.6, 0.6, 1.0, 0.0, 0.0], abs=0.01)
    assert {duration for _, duration in shown} == {140}


def test_a_gif_keeps_colours_and_is_never_too_fast(tmp_path: Path) -> None:
    """A palette for each frame: a red one, then a blue one. Viewers show frames of 0.01 s ten times as long."""
    images = torch.zeros(400, 4, 4, 3)
    images[:200, ..., 0], images[200:, ..., 2] = 0.8, 0.4
    with Image.open(save_turntable(images, tmp_path / "turn.gif", seconds=1.0)) as image:
        assert image.n_frames == 400
        assert image.info["duration"] == 20
        shown = [np.asarray(frame.convert("RGB"))[0, 0].tolist() for frame in ImageSequence.Iterator(image)]
    assert shown == [[204, 0, 0]] * 200 + [[0, 0, 102]] * 200


@pytest.mark.parametrize(("height", "width"), [(8, 6), (17, 32), (16, 33)])
def test_an_mp4_has_every_frame_at_its_time(tmp_path: Path, height: int, width: int) -> None:
    """Odd sides are made even by doubling the last row and column, since 4:2:0 colours need it."""
    values = (0.0, 0.3, 0.6, 0.9, 0.9)
    images = torch.tensor(values)[:, None, None, None].expand(-1, height, width, 3)
    path = save_turntable(images, tmp_path / "turn.MP4", seconds=2.0)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.01)
        frames = list(container.decode(stream))
    assert [float(frame.time) for frame in frames] == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6], abs=0.01)
    assert [frame.to_ndarray(format="gray").mean() / 255 for frame in frames] == pytest.approx(values, abs=0.1)


@pytest.mark.parametrize(("height", "width"), [(17, 32), (16, 33)])
def test_an_mp4_is_not_scaled(tmp_path: Path, height: int, width: int) -> None:
    """Stripes of two pixels stay sharp, and the doubled row or column repeats the last one."""
    stripes = ((torch.arange(height)[:, None] // 2 + torch.arange(width) // 2) % 2).float()
    path = save_turntable(stripes[None, :, :, None].expand(2, -1, -1, 3), tmp_path / "turn.mp4")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gray") / 255
    expected = np.pad(stripes.numpy(), ((0, height % 2), (0, width % 2)), mode="edge")
    assert np.abs(frame - expected).mean() < 0.05


def test_an_mp4_shows_colours_where_they_were(tmp_path: Path) -> None:
    """Left half red, right half blue: neither mirrored nor swapped."""
    images = torch.zeros(3, 32, 32, 3)
    images[:, :, :16, 0], images[:, :, 16:, 2] = 1.0, 1.0
    with av.open(str(save_turntable(images, tmp_path / "turn.mp4"))) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float) / 255
    assert frame[:, :12].mean((0, 1)) == pytest.approx([1, 0, 0], abs=0.06)
    assert frame[:, 20:].mean((0, 1)) == pytest.approx([0, 0, 1], abs=0.06)


def test_a_name_without_an_ending_is_a_folder_of_frames(tmp_path: Path) -> None:
    folder = save_turntable(grey(0.0, 0.2, 1.0), tmp_path / "new" / "frames")
    assert sorted(path.name for path in folder.iterdir()) == ["frame-000.png", "frame-001.png", "frame-002.png"]
    assert [np.asarray(Image.open(path))[0, 0, 0] for path in sorted(folder.iterdir())] == [0, 51, 255]
    dotted = tmp_path / "v1.2"
    dotted.mkdir()
    assert len(list(save_turntable(grey(0.0), dotted).iterdir())) == 1


@pytest.mark.parametrize("name", ["turn.avi", "turn.png"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"ends in \.webp, \.gif or \.mp4; a name without an ending is a folder") as raised:
        save_turntable(grey(0.0), tmp_path / name)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_said_with_the_line_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # what Python makes of a package that cannot be imported
    with pytest.raises(ExportError, match=r"an MP4 needs the library av.*pip install av"):
        save_turntable(grey(0.0), tmp_path / "turn.mp4")
    save_turntable(grey(0.0), tmp_path / "turn.gif")


def test_a_turntable_replaces_nothing_and_fills_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert save_turntable(grey(0.5), tmp_path / "empty") == tmp_path / "empty"
    assert save_turntable(grey(0.5, 0.6), tmp_path / "empty") == tmp_path / "empty-2"
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["frame-000.png"]
    assert len(list((tmp_path / "empty-2").iterdir())) == 2
    (tmp_path / "turn.webp").write_bytes(b"mine")
    assert save_turntable(grey(0.5), tmp_path / "turn.webp") == tmp_path / "turn-2.webp"
    assert (tmp_path / "turn.webp").read_bytes() == b"mine"
    (tmp_path / "file").write_bytes(b"mine")
    assert save_turntable(grey(0.5), tmp_path / "file") == tmp_path / "file-2"
    assert not list(tmp_path.glob(".*"))


def test_frames_that_cannot_all_be_written_leave_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("dfw.export.pictures.write_file", full)
    with pytest.raises(ExportError, match="no space left on the device"):
        save_turntable(grey(0.1, 0.2, 0.3), tmp_path / "frames")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "a.mp4"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    images = torch.rand(4, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert save_turntable(images, tmp_path / name).read_bytes() == save_turntable(images, tmp_path / f"b-{name}").read_bytes()


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
