"""What the kit shows a renderer: a scene that may draw while it is built, and views that have moments."""

from __future__ import annotations

import torch
from torch import nn

from dfw import CameraBatch, Geometry, RenderOutput
from dfw.testing import RendererTests
from dfw.testing.fields import two_blobs
from dfw_renderers.volume import Volume

times: list[float] = []


class Clock(Volume):
    """Writes down the moments of its views."""

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        assert cameras.time is not None
        times.extend(cameras.time.tolist())
        return super().forward(geometry, cameras, generator)


class Kit(RendererTests):
    component = Clock
    options = {"samples": 8, "occupancy": {"enabled": False}}  # noqa: RUF012

    def geometry(self) -> Geometry:
        nn.Linear(2, 2)  # a scene with a network draws its weights, which `initialise` then replaces
        return two_blobs()


def test_a_scene_that_draws_while_it_is_built_is_not_the_renderers_fault() -> None:
    Kit().test_no_global_rng()


def test_views_have_moments() -> None:
    times.clear()
    Kit().test_shapes()
    assert {0.0, 0.5, 1.0} <= set(times)
