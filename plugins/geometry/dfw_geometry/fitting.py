"""Fits parameters to known values, for scenes that start from another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

STEPS = 300
BATCH = 4096  # points of each of these steps
_RATE = 1e-2  # Instant-NGP's learning rate (Mueller et al. 2022), section 4


def fit(parameters: Iterable[nn.Parameter], error: Callable[[], Tensor]) -> None:
    """Lowers `error`, a scalar of fresh random points at each call, by 300 steps of Adam. Gradients may be switched off."""
    optimizer = torch.optim.Adam(parameters, lr=_RATE, eps=1e-15)  # rows that are seldom seen have tiny gradients
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            error().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    optimizer.zero_grad(set_to_none=True)


def draw_rows(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws which of `count` points a step takes: (K,) int64 on `device`, 4096 at most."""
    return torch.randint(count, (min(BATCH, count),), generator=generator, device=generator.device).to(device)
