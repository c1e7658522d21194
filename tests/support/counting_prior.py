"""A guidance whose embeddings tell texts apart and that remembers what it was asked; and cameras at given angles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfw import CameraBatch, Conditioning, cameras_at
from dfw_guidance.gaussian import Gaussian


class Counting(Gaussian):
    """The Gaussian guidance, with embeddings that are told apart by text, and a record of what it was asked."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__(Gaussian.Config(means={"x": (0, 0, 0)}))
        self.asked: list[str] = []
        self.calls = 0
        self.with_pooled = pooled

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        self.asked += texts
        self.calls += 1
        rows = torch.stack([row_of(text) for text in texts])
        return Conditioning(rows[:, None].expand(-1, 3, -1), rows if self.with_pooled else None)


def row_of(text: str) -> Tensor:
    """A vector that only this text has."""
    return torch.rand(5, generator=torch.Generator().manual_seed(sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**32))


def cameras(azimuth: Sequence[float], elevation: Sequence[float] | float) -> CameraBatch:
    """Cameras at these angles, degrees."""
    az = torch.tensor(azimuth)
    el = torch.as_tensor(elevation).expand(len(az)).clone()
    ones = torch.ones(len(az))
    return cameras_at(az, el, 3 * ones, 40 * ones, 8, 8)
