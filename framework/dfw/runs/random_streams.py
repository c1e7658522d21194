"""Random streams: one generator per purpose, so that a new draw for one purpose changes no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

PURPOSES = ("init", "cameras", "render", "noise", "scene")
BY_VIEWS = ("cameras", "render", "noise")
"""Purposes for which every further set of views has its own stream."""


def derive_seed(seed: int, purpose: str) -> int:
    """Derives a seed in [0, 2^63) for `purpose` from the run's seed. SHA-256 keeps purposes and seeds unrelated."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The generators of a run, on its device.

    `init` draws initial values. `cameras`, `render` (offsets, lights, backgrounds) and `noise` serve the training views;
    `cameras.NAME` ... serve every other set of views. `scene` serves the steps of geometry and renderer (densification).
    """

    def __init__(self, seed: int, device: torch.device, view_sets: Iterable[str] = ()) -> None:
        further = [f"{purpose}.{name}" for name in view_sets if name != "cameras" for purpose in BY_VIEWS]
        self._generators = {p: torch.Generator(device).manual_seed(derive_seed(seed, p)) for p in (*PURPOSES, *further)}

    def __getitem__(self, purpose: str) -> torch.Generator:
        return self._generators[purpose]

    def of(self, purpose: str, views: str) -> torch.Generator:
        """Returns the stream of a purpose for one set of views."""
        return self._generators[purpose if views == "cameras" else f"{purpose}.{views}"]

    def state(self) -> dict[str, Tensor]:
        """Returns purpose -> generator state, a byte tensor on the CPU."""
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores `state`, so that the draws continue. A stream that it lacks, of a set of views added since, starts afresh."""
        for purpose, generator in self._generators.items():
            if purpose in state:
                generator.set_state(state[purpose])
