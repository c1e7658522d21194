"""Poses by closed-form positions and axes, and points that must land on known pixels."""

from __future__ import annotations

import math

import pytest
import torch

from dfw.interfaces.poses import angles_of, cameras_at, look_at, orbit, spherical_position


def test_positions_by_hand() -> None:
    az, el = torch.tensor([0.0, 90.0, 180.0, -90.0, 0.0, 45.0]), torch.tensor([0.0, 0.0, 0.0, 0.0, 90.0, 45.0])
    found = spherical_position(az, el, torch.full((6,), 2.0))
    expected = [[2, 0, 0], [0, 2, 0], [-2, 0, 0], [0, -2, 0], [0, 0, 2], [1, 1, math.sqrt(2)]]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


def test_angles_undo_positions() -> None:
    az, el = torch.tensor([-170.0, -45.0, 0.0, 30.0, 179.0]), torch.tensor([-80.0, -10.0, 0.0, 45.0, 89.0])
    distance = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    for found, expected in zip(angles_of(spherical_position(az, el, distance)), (az, el, distance), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_front_camera_axes() -> None:
    """From +x: the image's right is the world's +y, its top the world's +z."""
    pose = look_at(torch.tensor([[3.0, 0, 0]]), torch.zeros(1, 3), torch.tensor([[0.0, 0, 1]]))[0]
    expected = torch.tensor([[0.0, 0, 1, 3], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(pose, expected)


@pytest.mark.parametrize("elevation", [-90.0, -89.9999, 0.0, 60.0, 89.9999, 90.0])
def test_poses_are_rotations_that_look_at_the_centre(elevation: float) -> None:
    cameras = orbit(5, elevation, 3.0, 40.0, 8, 8)
    rotation = cameras.camera_to_world[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(5, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(-rotation[:, :, 2] * 3, -cameras.position, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_straight_above_and_below_have_the_roll_of_azimuth_zero(sign: float) -> None:
    up = torch.tensor([[0.0, 0, 1]])
    pole = look_at(torch.tensor([[0.0, 0, 3 * sign]]), torch.zeros(1, 3), up)
    near = look_at(spherical_position(torch.zeros(1), torch.tensor([sign * 89.99]), torch.full((1,), 3.0)), torch.zeros(1, 3), up)
    torch.testing.assert_close(pole, near, rtol=0, atol=2e-3)


def test_turntable_goes_once_around_counter_clockwise() -> None:
    cameras = orbit(8, 15.0, 2.5, 40.0, 32, 48)
    assert cameras.azimuth.tolist() == [0, 45, 90, 135, 180, 225, 270, 315]
    assert (cameras.height, cameras.width, len(cameras)) == (32, 48, 8)
    rise, reach = 2.5 * math.sin(math.radians(15)), 2.5 * math.cos(math.radians(15))
    turn = torch.deg2rad(cameras.azimuth)
    expected = torch.stack([reach * turn.cos(), reach * turn.sin(), torch.full((8,), rise)], -1)
    torch.testing.assert_close(cameras.position, expected)


def test_a_known_point_in_a_known_pixel() -> None:
    """From the front at distance 3 with 90 degrees and 9 pixels, a pixel is 2/9 of the half-width 3."""
    cameras = orbit(1, 0.0, 3.0, 90.0, 9, 9)
    rays = cameras.rays()
    hit = rays.origin + rays.direction * (3 / -rays.direction[..., :1])  # where x = 0
    torch.testing.assert_close(hit[0, 4, 4], torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(hit[0, 0, 8], torch.tensor([0.0, 3 * 8 / 9, 3 * 8 / 9]), rtol=0, atol=1e-5)


def test_a_view_that_is_not_square_has_square_pixels_and_the_field_of_view_upwards() -> None:
    """From the front at distance 2 with 90 degrees, 4 rows cover 4 units at the centre, and so do 4 of 12 columns."""
    rays = orbit(1, 0.0, 2.0, 90.0, 4, 12).rays()
    hit = rays.origin + rays.direction * (2 / -rays.direction[..., :1])
    assert hit.shape == (1, 4, 12, 3)
    torch.testing.assert_close(hit[0, 0, 0], torch.tensor([0.0, -5.5, 1.5]), rtol=0, atol=1e-5)
    torch.testing.assert_close(hit[0, 3, 11], torch.tensor([0.0, 5.5, -1.5]), rtol=0, atol=1e-5)


def test_cameras_at_stand_where_they_are_asked_and_say_so() -> None:
    """Two cameras by hand: at the side, and straight above; both see the centre in the middle."""
    azimuth, elevation = torch.tensor([90.0, 0.0]), torch.tensor([0.0, 90.0])
    distance, fov = torch.tensor([2.0, 3.0]), torch.tensor([40.0, 60.0])
    found = cameras_at(azimuth, elevation, distance, fov, 6, 8)
    torch.testing.assert_close(found.position, torch.tensor([[0.0, 2, 0], [0, 0, 3]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(-found.camera_to_world[:, :3, 2] * distance[:, None], -found.position, rtol=0, atol=1e-6)
    assert (found.height, found.width, len(found), found.together, found.time) == (6, 8, 2, 1, None)
    reported = (found.azimuth, found.elevation, found.distance, found.fov_y)
    for value, expected in zip(reported, (azimuth, elevation, distance, fov), strict=True):
        assert torch.equal(value, expected)
