"""Cameras by closed-form positions, exact distributions, and points that must land on known pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dfw.config.camera_settings import CameraSettings
from scipy import stats
from torch import Tensor

from dfw import CameraBatch, Progress
from dfw.interfaces.poses import angles_of, elevation_range, look_at, orbit, sample_cameras, spherical_position, width_at

LATE = Progress(99, 100)


def settings(**options: object) -> CameraSettings:
    return CameraSettings.model_validate(options)


def draw(count: int = 20_000, seed: int = 0, progress: Progress = LATE, **options: object) -> CameraBatch:
    return sample_cameras(settings(batch_size=count, **options), progress, torch.Generator().manual_seed(seed))


def fits(values: Tensor, cdf: object) -> bool:
    """Kolmogorov and Smirnov's test at 1 in 1,000, for a fixed seed."""
    return bool(stats.kstest(values.double().numpy(), cdf).pvalue > 1e-3)


def uniform(low: float, high: float) -> object:
    return stats.uniform(low, high - low).cdf


def project(cameras: CameraBatch, point: Tensor) -> Tensor:
    """Pixel coordinates (B, 2) of a world point: x to the right, y down, by the pinhole formula."""
    local = torch.einsum("bji,bj->bi", cameras.camera_to_world[:, :3, :3], point - cameras.position)
    focal = cameras.height / 2 / torch.tan(torch.deg2rad(cameras.fov_y) / 2)
    x = cameras.width / 2 + focal * local[:, 0] / -local[:, 2]
    y = cameras.height / 2 - focal * local[:, 1] / -local[:, 2]
    return torch.stack([x, y], -1)


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


def test_the_centre_lands_on_the_middle_and_points_where_the_formula_says() -> None:
    """Rays and projection agree: walking each pixel's ray some way and projecting back gives the pixel's centre."""
    cameras = draw(6, position_jitter=0.1, look_at_jitter=0.2, up_jitter=0.02, width=16)
    rays = cameras.rays()
    torch.testing.assert_close(rays.direction.norm(dim=-1), torch.ones(6, 16, 16))
    for row, column in ((0, 0), (3, 12), (15, 15)):
        pixel = project(cameras, rays.origin[:, row, column] + 2.5 * rays.direction[:, row, column])
        torch.testing.assert_close(pixel, torch.tensor([[column + 0.5, row + 0.5]]).expand(6, 2), rtol=0, atol=1e-3)
    centred = project(draw(6, width=16), torch.zeros(3))
    torch.testing.assert_close(centred, torch.full((6, 2), 8.0), rtol=0, atol=1e-3)


def test_a_known_point_in_a_known_pixel() -> None:
    """From the front at distance 3 with 90 degrees and 9 pixels, a pixel is 2/9 of the half-width 3."""
    cameras = orbit(1, 0.0, 3.0, 90.0, 9, 9)
    rays = cameras.rays()
    hit = rays.origin + rays.direction * (3 / -rays.direction[..., :1])  # where x = 0
    torch.testing.assert_close(hit[0, 4, 4], torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(hit[0, 0, 8], torch.tensor([0.0, 3 * 8 / 9, 3 * 8 / 9]), rtol=0, atol=1e-5)


def test_distance_and_field_of_view_are_uniform() -> None:
    cameras = draw(distance=[1.0, 1.5], fov=[40.0, 70.0])
    assert fits(cameras.distance, uniform(1, 1.5))
    assert fits(cameras.fov_y, uniform(40, 70))


def area_cdf(low: float, high: float) -> object:
    sines = np.sin(np.radians([low, high]))
    return lambda x: (np.sin(np.radians(np.clip(x, low, high))) - sines[0]) / (sines[1] - sines[0])


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_elevation_is_the_stated_mix_of_angle_and_area(mix: float) -> None:
    cameras = draw(elevation=[-10, 90], elevation_mix=mix)
    angle, area = stats.uniform(-10, 100).cdf, area_cdf(-10, 90)
    assert fits(cameras.elevation, lambda x: mix * angle(x) + (1 - mix) * area(x))
    assert not fits(cameras.elevation, lambda x: (1 - mix) * angle(x) + mix * area(x)) or mix == 0.5
    assert not fits(cameras.elevation, stats.uniform(-10, 90).cdf)


@pytest.mark.parametrize("stratified", [True, False])
def test_azimuth_is_uniform(stratified: bool) -> None:
    settings_ = settings(batch_size=4, stratified_azimuth=stratified)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([sample_cameras(settings_, LATE, generator).azimuth for _ in range(2_000)])
    assert fits(drawn.flatten(), uniform(-180, 180))
    quarter = torch.floor((drawn + 180) / 90)
    one_each = bool((quarter.sort(dim=1).values == torch.arange(4)).all())
    assert one_each == stratified


def test_a_part_of_the_circle() -> None:
    cameras = draw(400, azimuth=[-45.0, 45.0])
    assert cameras.azimuth.abs().max() <= 45.001
    assert fits(draw(stratified_azimuth=False, azimuth=[-45.0, 45.0]).azimuth, uniform(-45, 45))


def test_jitters_have_their_distributions() -> None:
    still, moved = draw(), draw(position_jitter=0.1)
    offset = moved.position - still.position
    for axis in range(3):
        assert fits(offset[:, axis], uniform(-0.1, 0.1))
    aimed = draw(look_at_jitter=0.2)
    torch.testing.assert_close(aimed.position, still.position)
    back = aimed.camera_to_world[:, :3, 2]
    reach = (aimed.position * back).sum(-1, keepdim=True)  # the optical axis passes the centre this far from the camera
    miss = (aimed.position - reach * back).norm(dim=-1)
    assert miss.mean().item() == pytest.approx(0.2 * math.sqrt(math.pi / 2), rel=0.05)  # Rayleigh, two of three components
    rolled = draw(up_jitter=0.02, elevation=[0, 0])
    roll = torch.rad2deg(torch.asin(rolled.camera_to_world[:, 2, 0]))
    assert roll.std().item() == pytest.approx(math.degrees(0.02), rel=0.05)
    assert fits(roll, stats.norm(0, math.degrees(0.02)).cdf)


def test_where_it_looks_and_how_it_rolls_are_unrelated() -> None:
    """The optical axis misses the centre sideways by the target's offset; the roll comes from the up vector's own draw."""
    cameras = draw(elevation=[0, 0], azimuth=[0, 0], look_at_jitter=0.01, up_jitter=0.02)
    sideways, roll = cameras.camera_to_world[:, 1, 2], cameras.camera_to_world[:, 2, 0]
    assert abs(torch.corrcoef(torch.stack([sideways, roll]))[0, 1].item()) < 4 / 20_000**0.5


def test_angles_are_reported_after_the_jitter() -> None:
    cameras = draw(100, position_jitter=0.5, distance=[1, 1])
    for found, expected in zip((cameras.azimuth, cameras.elevation, cameras.distance), angles_of(cameras.position), strict=True):
        torch.testing.assert_close(found, expected)
    assert cameras.distance.std() > 0.1


def test_a_jitter_moves_no_other_draw() -> None:
    a, b = draw(10), draw(10, up_jitter=0.1, look_at_jitter=0.3)
    torch.testing.assert_close(a.position, b.position, rtol=0, atol=0)
    torch.testing.assert_close(a.fov_y, b.fov_y, rtol=0, atol=0)


def test_elevation_opens_from_the_horizon() -> None:
    opening = settings(elevation=[-10, 60], horizontal_warmup=0.5)
    found = [elevation_range(opening, Progress(step, 100)) for step in (0, 25, 50, 99)]
    assert found == [(0, 0), (-5, 30), (-10, 60), (-10, 60)]
    assert elevation_range(settings(elevation=[20, 60], horizontal_warmup=0.5), Progress(0, 100)) == (20, 20)
    start = draw(50, elevation=[-10, 60], horizontal_warmup=0.5, progress=Progress(0, 100))
    assert start.elevation.abs().max() < 1e-4


@pytest.mark.parametrize(("step", "side"), [(0, 16), (33, 32), (50, 40), (99, 64)])
def test_a_growing_width_is_a_multiple_of_eight(step: int, side: int) -> None:
    growing = settings(width={"from": 16, "to": 64})
    assert width_at(growing, Progress(step, 100)) == side
    cameras = sample_cameras(growing, Progress(step, 100), torch.Generator())
    assert (cameras.height, cameras.width) == (side, side)


def test_a_constant_width_is_taken_as_it_is() -> None:
    assert width_at(settings(width=100), LATE) == 100


def test_same_generator_same_cameras() -> None:
    first, same, other = draw(8, seed=1), draw(8, seed=1), draw(8, seed=2)
    assert torch.equal(first.camera_to_world, same.camera_to_world)
    assert not torch.equal(first.camera_to_world, other.camera_to_world)
    before = torch.random.get_rng_state()
    draw(8)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cameras_come_where_they_are_asked() -> None:
    found = sample_cameras(settings(), LATE, torch.Generator().manual_seed(0), "cuda")
    here = sample_cameras(settings(), LATE, torch.Generator().manual_seed(0))
    assert found.camera_to_world.is_cuda
    torch.testing.assert_close(found.camera_to_world.cpu(), here.camera_to_world)
