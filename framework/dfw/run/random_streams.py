"""Random streams: one generator per purpose, so that a new draw for one purpose changes no other."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

PURPOSES = ("init", "cameras", "render", "noise")


def derive_seed(seed: int, purpose: str) -> int:
    """Derives a seed in [0, 2^63) for `purpose` from the run's seed. SHA-256 keeps purposes and seeds unrelated."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The generators of a run, on its device: `init`, `cameras`, `render` (offsets, lights, backgrounds) and `noise`."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generators = {p: torch.Generator(device).manual_seed(derive_seed(seed, p)) for p in PURPOSES}

    def __getitem__(self, purpose: str) -> torch.Generator:
        return self._generators[purpose]

    def state(self) -> dict[str, Tensor]:
        """Returns purpose -> generator state, a byte tensor on the CPU."""
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores `state`, so that the draws continue from there."""
        for purpose, generator in self._generators.items():
            generator.set_state(state[purpose])
