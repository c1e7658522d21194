"""Maps of depth and normals as targets: planes and normals whose place in the scene is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfw import ConfigError, Progress, Views
from dfw_cameras.dataset import Dataset
from dfw_cameras.picture import Picture

SIDE = 24


def png(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return str(path)


def picture(folder: Path, **fields: object) -> Views:
    """A view of a square, opaque picture, with further fields of the camera."""
    if "image" not in fields:
        fields["image"] = png(folder / "picture.png", np.full((SIDE, SIDE, 4), 255, np.uint8))
    cameras = Picture(Picture.Config.model_validate({"width": SIDE, "azimuth": 40, "elevation": 25, **fields}))
    views = cameras.sample(Progress(0, 1), torch.Generator())
    given = {"target-" + name for name in views.targets}
    assert given == Picture.provides(cameras.config)
    return views


def hits(views: Views) -> tuple[torch.Tensor, torch.Tensor]:
    """The points (H, W, 3) that the depths say, and the camera's axes as columns."""
    rays, pose = views.cameras.rays(), views.cameras.camera_to_world[0]
    return rays.origin[0] + views.targets["depth"][0, ..., None] * rays.direction[0], pose


@pytest.mark.parametrize("kind", ["npy", "16 bits", "8 bits"])
def test_a_map_of_one_depth_is_a_plane_before_the_camera(tmp_path: Path, kind: str) -> None:
    """2 units along the axis, so every point is 2 units before the camera's own plane: its corners are further away."""
    if kind == "npy":
        np.save(tmp_path / "depth.npy", np.full((SIDE, SIDE), 2.0))
        views = picture(tmp_path, depth=str(tmp_path / "depth.npy"))
    else:
        grey = np.full((SIDE, SIDE), 2000, np.uint16) if kind == "16 bits" else np.full((SIDE, SIDE), 200, np.uint8)
        views = picture(tmp_path, depth=png(tmp_path / "d.png", grey), depth_unit=0.001 if kind == "16 bits" else 0.01)
    points, pose = hits(views)
    before = (points - pose[:3, 3]) @ -pose[:3, 2]
    torch.testing.assert_close(before, torch.full((SIDE, SIDE), 2.0))
    corner, middle = views.targets["depth"][0, 0, 0], views.targets["depth"][0, SIDE // 2, SIDE // 2]
    assert corner > middle > 2


def test_normals_of_the_camera_become_normals_of_the_world(tmp_path: Path) -> None:
    """Left half: towards the camera; right half: to its right. The picture is of 8 bits, so the angle is within a degree."""
    normals = np.zeros((SIDE, SIDE, 3))
    normals[:, : SIDE // 2, 2] = normals[:, SIDE // 2 :, 0] = 1
    views = picture(tmp_path, normal=png(tmp_path / "n.png", np.round((normals + 1) * 127.5).astype(np.uint8)))
    pose, found = views.cameras.camera_to_world[0], views.targets["normal"][0]
    torch.testing.assert_close(found[:, 2], pose[:3, 2].expand(SIDE, 3), atol=0.01, rtol=0)
    torch.testing.assert_close(found[:, -2], pose[:3, 0].expand(SIDE, 3), atol=0.01, rtol=0)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(SIDE, SIDE))
    np.save(tmp_path / "n.npy", normals * 7)
    torch.testing.assert_close(picture(tmp_path, normal=str(tmp_path / "n.npy")).targets["normal"][0], found, atol=0.01, rtol=0)


def test_what_lies_outside_the_mask_does_not_leak_in(tmp_path: Path) -> None:
    """A map four times as large as the view, with 1,000 outside the object: its border pixels must not mix with it."""
    pixels = np.zeros((4 * SIDE, 4 * SIDE, 4), np.uint8)
    pixels[30:70, 30:70] = 255
    depth = np.where(pixels[..., 3] > 0, 2.0, 1000.0)
    np.save(tmp_path / "depth.npy", depth)
    views = picture(tmp_path, image=png(tmp_path / "p.png", pixels), depth=str(tmp_path / "depth.npy"))
    points, pose = hits(views)
    before, mask = (points - pose[:3, 3]) @ -pose[:3, 2], views.targets["mask"][0]
    torch.testing.assert_close(before[mask > 0.01], torch.full_like(before[mask > 0.01], 2.0))
    assert views.targets["depth"][0][mask == 0].abs().max() == 0


def test_a_share_frames_the_maps_as_it_frames_the_picture(tmp_path: Path) -> None:
    """The map holds the column of each pixel; the object is 40 wide from column 100 on, so at a share of 0.8 the view is 50."""
    pixels = np.zeros((120, 160, 4), np.uint8)
    pixels[40:80, 100:140] = 255
    np.save(tmp_path / "depth.npy", np.broadcast_to(np.arange(160.0), (120, 160)))
    fields = {"image": png(tmp_path / "p.png", pixels), "depth": str(tmp_path / "depth.npy"), "share": 0.8, "width": 50}
    points, pose = hits(picture(tmp_path, **fields))
    before = (points - pose[:3, 3]) @ -pose[:3, 2]
    torch.testing.assert_close(before[25, 5:45], torch.arange(100.0, 140.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: png(path, np.zeros((4, 4, 3), np.uint8)), "has colours; a depth map is a grey picture or a .npy array"),
        (str, "there is no file"),
        (lambda path: path.write_bytes(b"\x89PNG no") and str(path), "cannot be read"),
        (
            lambda path: Image.fromarray(np.full((4, 4), np.inf, np.float32)).save(path, "TIFF") or str(path),
            "not finite; write 0",
        ),
    ],
)
def test_a_map_that_does_not_serve_is_one_sentence(tmp_path: Path, make: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        picture(tmp_path, depth=make(tmp_path / "d.png"))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (np.zeros((4, 4, 2)), r"has shape \(4, 4, 2\) of float64; it must be numbers \(height, width\)"),
        (np.zeros((0, 4)), "has shape"),
        (np.array([["a"]]), "of <U1"),
        (np.full((4, 4), np.nan), "not finite; write 0 there, outside"),
        (np.array([{"a": 1}], dtype=object), "cannot be read"),
    ],
)
def test_an_array_that_does_not_serve_is_one_sentence(tmp_path: Path, numbers: np.ndarray, said: str) -> None:
    np.save(tmp_path / "d.npy", numbers, allow_pickle=True)
    with pytest.raises(ConfigError, match=said):
        picture(tmp_path, depth=str(tmp_path / "d.npy"))


def posed(folder: Path, frames: int, with_maps: int) -> Dataset:
    """Cameras 4 units from the origin on the x axis, looking at it, whose first `with_maps` frames have both maps."""
    png(folder / "a.png", np.full((SIDE, SIDE, 4), 255, np.uint8))
    png(folder / "d.png", np.full((SIDE, SIDE), 3000, np.uint16))
    np.save(folder / "n.npy", np.broadcast_to([0.0, 0.0, 1.0], (SIDE, SIDE, 3)))
    matrix = [[0, 0, 1, 4], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    listed = [{"file_path": "a.png", "transform_matrix": matrix} for _ in range(frames)]
    for frame in listed[:with_maps]:
        frame |= {"depth_file_path": "d.png", "normal_file_path": "n.npy"}
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.8, "frames": listed}))
    config = Dataset.Config.model_validate({"folder": str(folder), "width": SIDE, "scale": 0.5})
    assert Dataset.provides(config) >= {"target-colour"}
    return Dataset(config)


def test_a_dataset_with_maps_gives_them_in_the_scenes_units(tmp_path: Path) -> None:
    """3,000 thousandths of a unit of the file, of which a unit is half one of the scene: 1.5 before a camera at x = 2."""
    cameras = posed(tmp_path, 3, 3)
    assert Dataset.provides(cameras.config) == {f"target-{name}" for name in ("colour", "mask", "depth", "normal", "index")}
    views = cameras.sample(Progress(0, 1), torch.Generator().manual_seed(0))
    points, _ = hits(views)
    torch.testing.assert_close(points[..., 0], torch.full((SIDE, SIDE), 0.5))
    torch.testing.assert_close(views.targets["normal"][0], torch.tensor([1.0, 0, 0]).expand(SIDE, SIDE, 3))
    assert set(views.targets) == {"colour", "mask", "depth", "normal", "index"}


def test_a_dataset_of_which_some_frames_have_maps_is_refused(tmp_path: Path) -> None:
    assert "depth" not in posed(tmp_path, 2, 0).sample(Progress(0, 1), torch.Generator()).targets
    with pytest.raises(ConfigError, match="1 of 3 frames have a depth_file_path; give it to all of them, or to none"):
        posed(tmp_path, 3, 1)
