"""The script that makes pictures to start from: they are where they say they are, and read back as they were written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from dreamfw_views.guidance import Views
from dreamfw_views.render_targets import cameras_of, render, save

from dfw.cameras import orbit


def test_the_cameras_are_those_of_dfw() -> None:
    """Poses, angles and places as dfw's own turntable has them."""
    ours = cameras_of([20.0], 6, 2.5, 40.0, 8)
    theirs = orbit(6, 20.0, 2.5, 40.0, 8, 8)
    torch.testing.assert_close(ours.camera_to_world, theirs.camera_to_world)
    torch.testing.assert_close(ours.azimuth, theirs.azimuth)
    torch.testing.assert_close(ours.rays().direction, theirs.rays().direction)


def test_pictures_read_back_with_their_cameras(tmp_path: Path) -> None:
    cameras = cameras_of([0.0, 40.0], 2, 3.0, 40.0, 24)
    assert [round(a) for a in cameras.azimuth.tolist()] == [0, 180, 90, 270]
    images = render("a blue cube", cameras)
    save(tmp_path, cameras, images)
    made = Views(Views.Config(folder=str(tmp_path), resolution=24, background=(0, 0, 0)))
    flat = (images[..., :3] * images[..., 3:]).permute(0, 3, 1, 2)
    torch.testing.assert_close(made.decode_image(made.views), flat, rtol=0, atol=0.01)
    torch.testing.assert_close(made.directions, cameras.position / 3, rtol=0, atol=1e-5)
    solid = images[..., 3] > 0.95
    assert 0.05 < solid.float().mean() < 0.6
    colour = images[..., :3][solid].mean(0)
    assert colour.argmax() == 2  # blue


def test_the_command_writes_a_folder_that_the_guidance_reads(tmp_path: Path) -> None:
    out = tmp_path / "targets"
    arguments = ["a red ball", "--out", str(out), "--count", "1", "--rings", "10", "--side", "16"]
    said = subprocess.run(
        [sys.executable, "-m", "dreamfw_views.render_targets", *arguments], capture_output=True, text=True, check=True
    )
    assert f"1 views of a red ball in {out}" in said.stdout
    (view,) = json.loads((out / "cameras.json").read_text())["views"]
    assert (out / view["file"]).is_file()
    assert round(view["elevation"]) == 10
