"""Random cameras by their exact distributions, and rays that agree with the pinhole formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dfw import CameraBatch, Progress
from dfw.interfaces.poses import angles_of, cameras_at
from dfw_cameras.random import Random
from dfw_cameras.ranges import size

LATE = Progress(99, 100)


def random(**options: object) -> Random:
    return Random(Random.Config.model_validate(options))


def draw(count: int = 20_000, seed: int = 0, progress: Progress = LATE, **options: object) -> CameraBatch:
    views = random(batch_size=count, **options).sample(progress, torch.Generator().manual_seed(seed))
    assert views.targets == {}
    return views.cameras


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
    cameras = random(batch_size=4, stratified_azimuth=stratified)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([cameras.sample(LATE, generator).cameras.azimuth for _ in range(2_000)])
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
    opening = random(elevation=[-10, 60], horizontal_warmup=0.5)
    found = [opening.elevation_range(Progress(step, 100)) for step in (0, 25, 50, 99)]
    assert found == [(0, 0), (-5, 30), (-10, 60), (-10, 60)]
    assert random(elevation=[20, 60], horizontal_warmup=0.5).elevation_range(Progress(0, 100)) == (20, 20)
    start = draw(50, elevation=[-10, 60], horizontal_warmup=0.5, progress=Progress(0, 100))
    assert start.elevation.abs().max() < 1e-4


@pytest.mark.parametrize(("step", "side"), [(0, 16), (33, 32), (50, 40), (99, 64)])
def test_a_growing_width_is_a_multiple_of_eight(step: int, side: int) -> None:
    cameras = draw(1, progress=Progress(step, 100), width={"from": 16, "to": 64})
    assert (cameras.height, cameras.width) == (side, side)


def test_a_constant_width_is_taken_as_it_is() -> None:
    assert size(100, None, LATE) == (100, 100)
    assert size(100, 60, LATE) == (60, 100)


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
    """The device is the generator's; without jitters the poses are those of the angles reported."""
    found = random().sample(LATE, torch.Generator("cuda").manual_seed(0)).cameras
    assert found.camera_to_world.is_cuda
    here = cameras_at(*(part.cpu() for part in (found.azimuth, found.elevation, found.distance, found.fov_y)), 64, 64)
    torch.testing.assert_close(found.camera_to_world.cpu(), here.camera_to_world, rtol=0, atol=1e-4)


def test_the_number_of_views_and_every_range_may_move() -> None:
    """By hand at the start, in the middle and at the end of 100 steps."""
    ramp = {"from": 1, "to": 5}
    moving = {"batch_size": ramp, "distance": [2, {"from": 2, "to": 4}], "azimuth": [{"from": -90, "to": 0}, 0]}
    cameras = random(**moving, stratified_azimuth=False)
    for step, count, far, left in ((0, 1, 2, -90), (50, 3, 3, -45), (100, 5, 4, 0)):
        drawn = [cameras.sample(Progress(step, 100), torch.Generator().manual_seed(seed)).cameras for seed in range(300)]
        assert {len(one) for one in drawn} == {count}
        distance, azimuth = (torch.cat([getattr(one, name) for one in drawn]) for name in ("distance", "azimuth"))
        assert 2 - 1e-4 <= distance.min() <= distance.max() <= far + 1e-4
        assert left - 1e-3 <= azimuth.min() <= azimuth.max() <= 1e-3
        assert far - distance.max() < 0.05
        assert azimuth.min() - left < 2


def test_the_scene_is_shown_from_the_middle_of_the_last_ranges() -> None:
    options = {"distance": [1, {"from": 1, "to": 3}], "fov": [40, 60], "elevation": [{"from": 0, "to": -20}, 60]}
    found = random(**options).orbit()
    assert (found.distance, found.fov, found.lowest) == (2, 50, -20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": [2, 1]}, r"\[2, 1\] runs backwards; write \[low, high\]"),
        ({"elevation": [{"from": 0, "to": 70}, 60]}, r"\[70, 60\] runs backwards"),
        ({"distance": [0, 1]}, "must lie above 0"),
        ({"fov": [40, 180]}, r"inside \(0, 180\) degrees"),
        ({"elevation": [-91, 0]}, r"inside \[-90, 90\] degrees"),
        ({"batch_size": 0}, "0 is too small; write 1 or more"),
    ],
)
def test_a_wrong_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random(**options)
