"""NeRFs to try, of each encoding, and points to ask them at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfw_geometry.nerf import NeRF

ENCODINGS = [
    {"type": "hash-grid", "levels": 4, "features": 2, "log2_size": 10, "base": 4, "finest": 24},
    {"type": "dense-grid", "resolutions": [5, 9], "features": 3},
    {"type": "integrated-positional", "levels": 4, "blocks": 2, "width": 16},
]
by_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e["type"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(loud: bool = False, **options: object) -> NeRF:
    """A NeRF with initial parameters; `loud`: features as large as after some training."""
    nerf = NeRF(NeRF.Config.model_validate(options))
    nerf.initialise(seeded())
    if loud:
        with torch.no_grad():
            for parameter in nerf.encoding.grid_parameters():
                parameter.mul_(1e4)
    return nerf


def cube(count: int, half: float = 0.95, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return (torch.rand(count, 3, dtype=dtype, generator=seeded(seed)) * 2 - 1) * half
