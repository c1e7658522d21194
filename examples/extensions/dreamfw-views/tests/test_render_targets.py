"""The script that makes pictures to start from: they are where they say they are, and read back as they were written."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from dreamfw_views.guidance import Views
from dreamfw_views.render_targets import cameras_of, render, save


def test_the_cameras_stand_and_look_as_dfw_means_it() -> None:
    """Places by spherical angles with z up, rays through the middles of pixels by the pinhole's own tangents."""
    side, distance, fov = 8, 2.5, 40.0
    cameras = cameras_of([20.0], 6, distance, fov, side)
    azimuth, elevation = torch.deg2rad(60.0 * torch.arange(6)), torch.deg2rad(torch.tensor(20.0))
    flat = elevation.cos()
    place = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin().expand(6)], -1)
    torch.testing.assert_close(cameras.position, distance * place)
    torch.testing.assert_close(cameras.azimuth, 60.0 * torch.arange(6))
    assert cameras.elevation.tolist() == [20.0] * 6
    right = torch.linalg.cross(-place, torch.tensor([[0.0, 0, 1]]).expand(6, 3))
    right = right / right.norm(dim=-1, keepdim=True)
    up = torch.linalg.cross(right, -place)
    tangent = ((torch.arange(side) + 0.5) / side * 2 - 1) * math.tan(math.radians(fov / 2))
    across, down = tangent[None, None, :, None] * right[:, None, None], tangent[None, :, None, None] * up[:, None, None]
    expected = torch.nn.functional.normalize(across - down - place[:, None, None], dim=-1)
    torch.testing.assert_close(cameras.rays().direction, expected)


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
