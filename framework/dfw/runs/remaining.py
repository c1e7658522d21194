"""Estimates how long a run still takes, its files included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dfw.config.settings import FACES, RunConfig
from dfw.runs.outputs import EXPORT_VIEWS, EXPORT_WIDTH, preview_views
from dfw.runs.scene import Scene

SECONDS_PER_TRIANGLE = 4e-4
"""Of mesh, texture and comparison: 20,000 triangles took 8 s on two cores of a server, and on a laptop."""


class Remaining:
    """The time left: the steps at their mean pace so far, the pictures at that of the last preview, the mesh by its triangles.

    The pace of the steps holds their previews and checkpoints too. The first step of a process does not count, since it loads
    and compiles. The mesh's time is a guess from one kind of machine.
    """

    def __init__(self, config: RunConfig, scene: Scene, exports: bool) -> None:
        self._steps = config.trainer.steps
        settings = config.export
        self._pixels = 0 if scene.flat else settings.turntable_frames * settings.turntable_width**2
        self._mesh = 0.0
        if exports and scene.geometry.has_shape:
            self._pixels += EXPORT_VIEWS * EXPORT_WIDTH**2
            self._mesh = SECONDS_PER_TRIANGLE * (settings.faces or FACES)
        self._preview_pixels = preview_views(scene) * config.trainer.preview_width**2
        self._per_pixel = 0.0
        self._first: tuple[int, float] | None = None
        self._pausing = False

    @contextmanager
    def watching_a_preview(self) -> Iterator[None]:
        """Takes the time of the preview inside."""
        began = time.monotonic()
        yield
        self._per_pixel = (time.monotonic() - began) / self._preview_pixels

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """The time inside is not the steps'. One inside another counts once."""
        began, outermost = time.monotonic(), not self._pausing
        self._pausing = True
        try:
            yield
        finally:
            if outermost:
                self._pausing = False
            if outermost and self._first is not None:
                step, since = self._first
                self._first = (step, since + time.monotonic() - began)

    def after(self, step: int, at: float) -> float:
        """Returns the seconds left after `step`, which ended `at` on `time.monotonic()`."""
        if self._first is None:
            self._first = (step, at)
        first, since = self._first
        pace = (at - since) / max(step - first, 1)
        return pace * (self._steps - 1 - step) + self._per_pixel * self._pixels + self._mesh
