"""Random streams: one generator per purpose, so that a draw added to one purpose moves no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

PURPOSES = ("init", "cameras", "render", "noise", "scene")
BY_VIEWS = ("cameras", "render", "noise")
"""Purposes of which every further set of views has a stream of its own."""


def derive_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2^63) for `purpose`, from the run's seed; different purposes and seeds are unrelated (SHA-256)."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The generators of a run, on its device.

    `init`: initial values. `cameras`, `render` (offsets, lights, backgrounds) and `noise`: of the training views, and
    `cameras.NAME` ... of every other set of views. `scene`: of the geometry's and renderer's steps (densification).
    """

    def __init__(self, seed: int, device: torch.device, view_sets: Iterable[str] = ()) -> None:
        further = [f"{purpose}.{name}" for name in view_sets if name != "cameras" for purpose in BY_VIEWS]
        self._generators = {p: torch.Generator(device).manual_seed(derive_seed(seed, p)) for p in (*PURPOSES, *further)}

    def __getitem__(self, purpose: str) -> torch.Generator:
        return self._generators[purpose]

    def of(self, purpose: str, views: str) -> torch.Generator:
        """The stream of a purpose for one set of views."""
        return self._generators[purpose if views == "cameras" else f"{purpose}.{views}"]

    def state(self) -> dict[str, Tensor]:
        """Purpose -> generator state, a byte tensor on the CPU."""
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continues where `state` was taken; a stream that it does not have (a set of views added since) begins anew."""
        for purpose, generator in self._generators.items():
            if purpose in state:
                generator.set_state(state[purpose])
