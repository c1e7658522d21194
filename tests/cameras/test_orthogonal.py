"""Rings of views around the scene."""

from __future__ import annotations

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
