"""Strips, and the contact sheet: each frame is the one at its angle, and each cell is the run that it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from copied_runs import entry
from PIL import Image

from dfw.comparison.pictures import FRAMES, WIDTH, shown
from dfw.comparison.sheet import GAP, HEAD, LABELS, TILE, write_sheet
from dfw.errors import ConfigError
from dfw.export.pictures import save_grid, save_turntable


def turntable(path: Path, count: int, height: int = 16) -> Path:
    """Frame k is grey of the value k / count."""
    grey = (torch.arange(count) / count)[:, None, None, None].expand(count, height, 16, 3)
    return save_turntable(grey, path)


@pytest.mark.parametrize("name", ["turn.webp", "turn.gif", "turn.mp4", "turn"])
@pytest.mark.parametrize("count", [8, 24])
def test_every_frame_of_a_strip_is_the_one_at_its_angle(tmp_path: Path, name: str, count: int) -> None:
    one = replace(entry("a", "duck"), turntable=turntable(tmp_path / name, count, height=8))
    (found,) = shown([one], tmp_path / "files")
    assert found is not None
    assert (found.turns, found.ratio) == (True, 2.0)
    strip = np.asarray(Image.open(tmp_path / "files" / found.file).convert("RGB")).astype(float)
    assert strip.shape == (WIDTH // 2, FRAMES * WIDTH, 3)
    middles = strip[WIDTH // 4, WIDTH // 2 :: WIDTH].mean(-1)
    wanted = np.array([255 * (place * count // FRAMES) / count for place in range(FRAMES)])
    assert np.abs(middles - wanted).max() < 10  # what the encoders lose; neighbours differ by 10.6 or more


def test_a_run_without_a_turntable_shows_the_front_of_its_preview(tmp_path: Path) -> None:
    views = torch.stack([torch.full((16, 16, 3), value) for value in (0.0, 0.3, 0.6, 1.0)])
    broken = tmp_path / "broken.webp"
    broken.write_bytes(b"RIFF")
    one = replace(entry("a", "duck"), turntable=broken, preview=save_grid(views, tmp_path / "p.png"))
    (found, nothing) = shown([one, entry("a", "car")], tmp_path / "files")
    assert nothing is None
    assert found is not None
    assert (found.turns, found.ratio) == (False, 1.0)
    assert np.asarray(Image.open(tmp_path / "files" / found.file).convert("RGB")).max() < 6


def test_only_what_has_changed_is_made_again_and_only_our_pictures_are_removed(tmp_path: Path) -> None:
    runs = [replace(entry("a", str(place)), turntable=turntable(tmp_path / f"{place}.webp", 4 + place)) for place in range(3)]
    folder = tmp_path / "files"
    first = shown(runs, folder)
    (folder / "mine.webp").touch()
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    runs[0].turntable.unlink()
    runs[0] = replace(runs[0], turntable=turntable(tmp_path / "0.webp", 9))
    second = shown(runs[:2], folder)
    assert second[1] == first[1]
    assert second[0] != first[0]
    left = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert left.keys() == {"mine.webp", second[0].file, second[1].file}
    assert left[second[1].file] == times[second[1].file]


def test_a_contact_sheet_has_a_row_for_each_prompt_and_a_column_for_each_method_and_seed(tmp_path: Path) -> None:
    def run(method: str, prompt: str, seed: int, value: float | None) -> object:
        one = replace(entry(method, prompt, seed), method=method)
        if value is None:
            return replace(one, record=replace(one.record, status="failed"))
        path = tmp_path / f"{method}{prompt}{seed}.png"
        return replace(one, preview=save_grid(torch.full((1, 8, 8, 3), value), path))

    runs = [run("m", "duck", 0, 0.1), run("m", "duck", 1, 0.2), run("m", "car", 0, 0.3), run("n", "car", 1, None)]
    write_sheet(tmp_path / "sheet.png", runs)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    assert sheet.shape == (HEAD + 2 * (TILE + GAP), LABELS + 3 * (TILE + GAP), 3)
    middle = [[sheet[HEAD + r * (TILE + GAP) + 120, LABELS + c * (TILE + GAP) + 96, 0] for c in range(3)] for r in range(2)]
    assert middle == [[26, 51, 236], [76, 236, 236]]  # the picture's grey, or the grey of a cell without one
    labels = [sheet[HEAD + r * (TILE + GAP) : HEAD + r * (TILE + GAP) + 30, :LABELS] for r in range(2)]
    assert all(label.min() < 100 for label in labels)
    with pytest.raises(ConfigError, match=r"sheet\.jpg: a contact sheet ends in \.png"):
        write_sheet(tmp_path / "sheet.jpg", runs)
