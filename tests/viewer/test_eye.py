"""A look in viser's convention is the same camera as dfw's, and what no camera is, is not looked through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_runs import PIXELS, SCENE, config

from dfw.compose import compose
from dfw.errors import ExportError
from dfw.interfaces.poses import cameras_at
from dfw.runs.scene import Scene
from dfw.runs.start import make_trainer
from dfw.viewer.eye import KINDS, Look, Sight, quaternion, see

CPU = torch.device("cpu")


def scene_of(base, tmp_path, **changes) -> Scene:
    made = config(base, tmp_path, **changes)
    return make_trainer(made, compose(made).build()).scene


def look(azimuth: float, elevation: float = 20.0, width: int = 64, height: int = 64) -> tuple[Look, torch.Tensor]:
    """A look as viser says it: position, target and up make x right, y down, z forward."""
    one = torch.ones(1)
    cameras = cameras_at(azimuth * one, elevation * one, 3 * one, 40 * one, height, width)
    pose = cameras.camera_to_world[0].numpy().astype(np.float64)
    found = Look.of(quaternion(pose), pose[:3, 3], math.radians(40), width, height)
    assert found is not None
    return found, cameras.camera_to_world


@pytest.mark.parametrize("azimuth", [-170.0, 0.0, 33.0, 90.0])
@pytest.mark.parametrize("elevation", [-60.0, 0.0, 75.0])
def test_a_look_is_the_camera_at_its_angles(azimuth: float, elevation: float):
    found, pose = look(azimuth, elevation)
    cameras = found.cameras(64, CPU)
    torch.testing.assert_close(cameras.camera_to_world, pose, atol=1e-5, rtol=0)
    np.testing.assert_allclose([cameras.azimuth, cameras.elevation, cameras.distance], [[azimuth], [elevation], [3.0]], atol=1e-3)
    assert float(cameras.fov_y) == pytest.approx(40)


def test_the_quaternion_is_viser_s():
    """Straight ahead from +x: viser's right is +y, its down -z, its forward -x."""
    found, _ = look(0.0, 0.0)
    from viser.transforms import SO3

    axes = SO3(np.array(found.wxyz)).as_matrix()
    np.testing.assert_allclose(axes, np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]), atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "size"), [(100, 50, (64, 32)), (50, 100, (32, 64)), (1, 900, (16, 64)), (900, 1, (64, 16))]
)
def test_pictures_have_the_shape_of_the_window_within_limits(width: int, height: int, size: tuple[int, int]):
    cameras = look(0.0, width=width, height=height)[0].cameras(64, CPU)
    assert (cameras.width, cameras.height) == size
    assert look(0.0, width=40, height=20)[0].cameras(64, CPU).width == 40


@pytest.mark.parametrize(
    "wrong",
    [
        {"wxyz": [math.nan, 0, 0, 0]},
        {"wxyz": [0.0, 0, 0, 0]},
        {"wxyz": [1.0, 0, 0]},
        {"position": [math.inf, 0, 0]},
        {"position": [1e30, 0, 0]},
        {"position": [1.0, 0]},
        {"fov": 0.0},
        {"fov": -1.0},
        {"fov": 4.0},
        {"width": 0},
        {"height": math.nan},
    ],
    ids=str,
)
def test_what_is_no_camera_is_not_looked_through(wrong):
    good = {"wxyz": [1.0, 0, 0, 0], "position": [1.0, 0, 0], "fov": 0.7, "width": 10, "height": 10}
    assert Look.of(**good) is not None
    assert Look.of(**(good | wrong)) is None


def test_what_is_seen_is_the_scene_from_there(tmp_path):
    scene = scene_of(SCENE, tmp_path)
    found, _ = look(70.0)
    expected = scene.render(azimuth=70.0, elevation=20.0, distance=3.0, fov=40.0, width=64)
    pixels, whole = see(scene, found, Sight("colour", 64), None)
    assert whole
    np.testing.assert_allclose(pixels, expected.colours[0].numpy() * 255, atol=1.0)
    pixels, _ = see(scene, found, Sight("opacity", 64), None)
    np.testing.assert_allclose(pixels[..., 0], expected.render.opacity[0].numpy() * 255, atol=1.0)
    pixels, whole = see(scene, found, Sight("colour", 64), 1e-3)
    assert (pixels.shape, whole) == ((16, 16, 3), False)


def test_every_kind_is_a_picture_and_a_renderer_without_normals_says_so(tmp_path):
    scene, found = scene_of(SCENE, tmp_path), look(10.0)[0]
    shown = {kind: see(scene, found, Sight(kind, 32), None)[0].tobytes() for kind in KINDS}
    assert len(set(shown.values())) == len(KINDS)
    plain = scene_of(SCENE, tmp_path, renderer=SCENE["renderer"] | {"shading": {}})
    with pytest.raises(ExportError, match="computes no normals"):
        see(plain, found, Sight("normal", 32), None)


def test_a_plane_keeps_its_shape_in_a_wide_window(tmp_path):
    pixels, whole = see(scene_of(PIXELS, tmp_path), look(0.0, width=200, height=100)[0], Sight("colour", 64), 1.0)
    assert (pixels.shape, whole) == ((16, 32, 3), True)
    assert (pixels[:, :8] == 64).all()
    assert (pixels[:, 24:] == 64).all()
    assert not (pixels[:, 8:24] == 64).all()
