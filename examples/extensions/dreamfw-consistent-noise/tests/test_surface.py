"""Noise on the surface: against coefficients counted one sample at a time, and where two views must agree exactly."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import scenes
import torch
from dreamfw_consistent_noise.surface import Surface
from torch import Tensor

from dfw import CameraBatch, RenderOutput

CHANNELS = 6000
"""Draws of every pixel's noise: a correlation is known to 0.013."""


def surface(**options: object) -> Surface:
    """With all entries drawn."""
    made = Surface(Surface.Config.model_validate({"log2_size": 22, **options}))
    made.initialise(scenes.generator())
    return made


def noise(made: Surface, seen: RenderOutput, cameras: CameraBatch, side: int, channels: int = CHANNELS) -> Tensor:
    """(B, C, side, side)."""
    return made(torch.zeros(len(cameras), channels, side, side, dtype=torch.float64), scenes.asked(seen, cameras))


def correlation(found: Tensor) -> Tensor:
    """Between all pixels of all views of (B, C, h, w), over the channels; means are 0 by definition."""
    flat = found.transpose(0, 1).flatten(1)
    return flat.T @ flat / len(flat)


def coefficients(cameras: CameraBatch, seen: RenderOutput, side: int, samples: int, cell: float, reference: str) -> list[dict]:
    """For each pixel of each view, cell -> its share, by the definition and a loop. The render has side x samples pixels."""
    found = []
    for view in range(len(cameras)):
        pose, fov = cameras.camera_to_world[view], math.radians(float(cameras.fov_y[view]))
        right, up, back, eye = (*pose[:3, :3].T.tolist(), pose[:3, 3].tolist())
        half = math.tan(fov / 2)
        for row in range(side):
            for column in range(side):
                count: dict = defaultdict(int)
                for i in range(row * samples, (row + 1) * samples):
                    for j in range(column * samples, (column + 1) * samples):
                        depth = float(seen.depth[view, i, j])
                        if depth == 0:
                            continue
                        x, y = ((2 * (j + 0.5) / cameras.width - 1) * half, (1 - 2 * (i + 0.5) / cameras.height) * half)
                        ray = [x * r + y * u - b for r, u, b in zip(right, up, back, strict=True)]
                        length = math.hypot(*ray)
                        point = [e + depth * r / length for e, r in zip(eye, ray, strict=True)]
                        radius = math.hypot(*point) if reference == "directions" else 1.0
                        place = tuple(math.floor(p / radius / cell) for p in point)
                        middle = [(p + 0.5) * cell for p in place]
                        if reference == "directions":
                            middle = [m * radius / math.hypot(*middle) for m in middle]
                        away = [m - e for m, e in zip(middle, eye, strict=True)]
                        u, v, w = (sum(a * b for a, b in zip(away, axis, strict=True)) for axis in (right, up, back))
                        home = (math.floor((1 + v / w / half) * side / 2), math.floor((1 - u / w / half) * side / 2))
                        count[place] += home == (row, column)
                found.append({place: n for place, n in count.items() if n})
    return found


@pytest.mark.parametrize(("reference", "cell"), [("directions", 0.11), ("places", 0.08), ("places", 0.2)])
def test_every_correlation_is_the_overlap_counted_by_hand(reference: str, cell: float) -> None:
    """Two views of a ball. Unit variance, none between pixels of one view, and sum K1 K2 / sqrt(sum K1^2 sum K2^2) between."""
    side, samples = 6, 4
    cameras = scenes.at((10, 5), (22, 15), height=24, width=24)
    seen = scenes.ball(cameras, 0.8)
    made = surface(reference=reference, cell=cell, samples=samples)
    found = correlation(noise(made, seen, cameras, side))
    shares = coefficients(cameras, seen, side, samples, cell, reference)
    for share, number in ((share, number) for number, share in enumerate(shares) if not share):
        share["pixel", number % side**2] = 1  # noise of its own, the same in every view
    expected = torch.zeros(len(shares), len(shares), dtype=torch.float64)
    for i, one in enumerate(shares):
        for j, two in enumerate(shares):
            inner = sum(n * two.get(place, 0) for place, n in one.items())
            expected[i, j] = inner / math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in two.values()))
    own, between = expected[: side**2, : side**2], expected[: side**2, side**2 :]
    torch.testing.assert_close(own, torch.eye(side**2, dtype=torch.float64))
    assert (between.max(1).values > 0.4).sum() >= 8  # the views do share noise, and partly
    torch.testing.assert_close(found, expected, rtol=0, atol=5.5 / math.sqrt(CHANNELS))


@pytest.mark.parametrize("reference", ["directions", "places"])
@pytest.mark.parametrize("cell", [0.02, 0.1, 0.7])
def test_a_view_is_white_whatever_the_cell(reference: str, cell: float) -> None:
    """Mean 0, variance 1, pixels independent: of a foggy ball seen at another size than the guidance's, 9 pixels beside 7."""
    cameras = scenes.at((-70, 20), height=9, width=9)
    seen = scenes.ball(cameras, 0.9)
    seen = scenes.render(cameras, seen.depth, 0.7 * seen.opacity)
    found = noise(surface(reference=reference, cell=cell), seen, cameras, 7)
    bound = 5.5 / math.sqrt(CHANNELS)
    assert found.mean(1).abs().max() < bound
    torch.testing.assert_close(correlation(found), torch.eye(49, dtype=torch.float64), rtol=0, atol=bound)


def test_a_camera_moved_by_a_pixel_sees_the_noise_moved_by_a_pixel() -> None:
    """Above a plane, half a unit a pixel: the noise that both see is the same to the last bit."""
    side, height, z = 8, 2.05, 0.05
    here, there, below = ((0.0, 0.0), (0.5, 0.0), (0.0, -0.5))
    cameras = scenes.downwards(here, there, below, height=height, fov=90.0, side=side)
    found = noise(surface(reference="places", cell=0.1), scenes.floor(cameras, z), cameras, side, channels=4)
    assert torch.equal(found[1, ..., :-1], found[0, ..., 1:])
    assert torch.equal(found[2, :, :-1], found[0, :, 1:])
    assert not torch.equal(found[1], found[0])


def test_a_camera_that_rolls_sees_the_noise_turned() -> None:
    side = 8
    cameras = scenes.downwards((0.0, 0.0), (0.0, 0.0), height=2.05, fov=90.0, side=side)
    pose = cameras.camera_to_world
    pose[1, :3, 0], pose[1, :3, 1] = pose[0, :3, 1].clone(), -pose[0, :3, 0].clone()  # right is up now
    found = noise(surface(reference="places", cell=0.1), scenes.floor(cameras, 0.05), cameras, side, channels=4)
    torch.testing.assert_close(found[1], torch.rot90(found[0], -1, (1, 2)), rtol=0, atol=1e-6)  # sums in another order


def test_a_ball_that_grows_keeps_its_noise_by_directions() -> None:
    """Twice the ball from twice the distance is the same picture of the same directions."""
    near, far = scenes.at((30, 10)), scenes.at((30, 10), distance=6.0)
    for reference, same in (("directions", True), ("places", False)):
        made = surface(reference=reference)
        one = noise(made, scenes.ball(near, 0.7), near, 6, channels=4)
        two = noise(made, scenes.ball(far, 1.4), far, 6, channels=4)
        assert torch.equal(one, two) == same


def test_background_has_fixed_noise_of_its_own() -> None:
    """The corners of two views agree, and the ball in the middle does not."""
    cameras = scenes.at((0, 0), (180, 0))
    found = noise(surface(), scenes.ball(cameras, 0.5), cameras, 8, channels=4)
    same = (found[0] == found[1]).all(0)
    assert same[0].all()
    assert same[:, -1].all()
    assert not same[3:5, 3:5].any()
    assert found.flatten(2).std(2).min() > 0.5


@pytest.mark.parametrize("size", [{"width": 40}, {"height": 40}])
def test_of_an_oblong_view_the_centred_square_counts(size: dict[str, int]) -> None:
    """24 pixels square, cut out of 24 x 40 or 40 x 24 that see more beside it; the field of view is that of the height."""
    square, made = scenes.at((15, 15), (60, 0)), surface()
    half = math.tan(math.radians(20)) * size.get("height", 24) / 24
    oblong = scenes.at((15, 15), (60, 0), fov=2 * math.degrees(math.atan(half)), **size)
    expected = noise(made, scenes.ball(square, 0.8), square, 6, channels=4)
    torch.testing.assert_close(noise(made, scenes.ball(oblong, 0.8), oblong, 6, channels=4), expected)


def test_planes_are_interpolated_exactly() -> None:
    """A tilted plane, rendered at 6 x 6 pixels and asked at 18 x 18: points inside lie on it."""
    from dreamfw_consistent_noise.surface import surface_points

    cameras = scenes.at((0, 50), height=6, width=6)
    seen = surface_points(scenes.floor(cameras, -0.3), cameras, 6, 3)
    assert seen.solid.all()
    inner = seen.point[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner[..., 2], torch.full_like(inner[..., 2], -0.3), rtol=0, atol=1e-12)


def test_it_logs_how_many_cells_a_pixel_sums() -> None:
    """On a plane at one unit a pixel: 16 cells of 1/4, each seen by as many samples."""
    made = surface(reference="places", cell=0.25, samples=8)
    cameras = scenes.downwards((0.0, 0.0), height=4.125, fov=90.0, side=8)
    noise(made, scenes.floor(cameras, 0.125), cameras, 8, channels=1)
    assert float(vars(made)["_dfw_numbers"]["cells"]) == pytest.approx(16)
