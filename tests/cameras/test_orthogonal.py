"""Rings of views around the scene."""

from __future__ import annotations

import math

import pytest
import torch

from dfw import Progress
from dfw_cameras.orthogonal import Orthogonal


@pytest.mark.parametrize("count", [4, 3])
def test_views_of_a_ring_are_evenly_apart_and_azimuths_lie_in_one_turn(count: int) -> None:
    cameras = Orthogonal(Orthogonal.Config.model_validate({"count": count, "batch_size": 16 * count, "width": 16}))
    views = cameras.sample(Progress(0, 1), torch.Generator().manual_seed(0)).cameras
    azimuth = views.azimuth.view(16, count)
    assert float(azimuth.min()) >= -180
    assert float(azimuth.max()) < 180
    apart = torch.remainder(azimuth.diff(dim=1), 360)
    torch.testing.assert_close(apart, torch.full_like(apart, 360 / count), atol=1e-3, rtol=0)
    assert len(azimuth[:, 0].unique()) == 16
    elevation = views.elevation.view(16, count)
    assert torch.equal(elevation, elevation[:, :1].expand(-1, count))
    assert views.together == count


def test_relative_distances_keep_the_size_in_the_picture() -> None:
    """At distance d/tan(fov/2) a segment of half length 1/d at the centre fills half the view: its edge is seen at fov/2."""
    options = {"batch_size": 40, "distance": (0.8, 0.8), "fov": (15, 60), "relative": True}
    cameras = Orthogonal(Orthogonal.Config.model_validate(options))
    views = cameras.sample(Progress(0, 1), torch.Generator().manual_seed(0)).cameras
    half = torch.deg2rad(views.fov_y) / 2
    assert half.max() > 2 * half.min()
    torch.testing.assert_close(views.position.norm(dim=-1) * half.tan(), torch.full((40,), 0.8))
    orbit = cameras.orbit()
    assert orbit.distance == pytest.approx(0.8 / math.tan(math.radians(37.5 / 2)))


def test_the_number_of_rings_may_change_during_a_run() -> None:
    ramp = {"from": 8, "to": 4, "start": 0.5, "end": 0.5}
    cameras = Orthogonal(Orthogonal.Config.model_validate({"batch_size": ramp}))
    counts = [len(cameras.sample(Progress(step, 10), torch.Generator().manual_seed(0)).cameras) for step in (0, 4, 6)]
    assert counts == [8, 8, 4]
    with pytest.raises(ValueError, match="batch_size: 6 is not a multiple of count, 4"):
        Orthogonal.Config.model_validate({"batch_size": {**ramp, "from": 6}})
