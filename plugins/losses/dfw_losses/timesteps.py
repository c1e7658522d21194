"""Which timesteps a distillation loss looks at: uniform in a range given in fractions of T, which may move during the run."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw import ConfigError, Progress, Schedule, value_at


def bounds_of(schedule: Schedule) -> tuple[float, float]:
    """The schedule's first and last value."""
    return (float(schedule), float(schedule)) if isinstance(schedule, int | float) else (schedule.from_, schedule.to)


def check_range(t_min: Schedule, t_max: Schedule) -> None:
    """Raises ValueError unless both stay inside [0, 1] and t_min lies below t_max at the first and the last step."""
    for name, schedule in (("t_min", t_min), ("t_max", t_max)):
        for value in bounds_of(schedule):
            if not 0 <= value <= 1:
                raise ValueError(
                    f"{name}: {value:g} must lie in [0, 1], a fraction of all timesteps; DreamFusion uses 0.02 to 0.98"
                )
    for low, high in zip(bounds_of(t_min), bounds_of(t_max), strict=True):
        if low > high:
            raise ValueError(f"t_min ({low:g}) lies above t_max ({high:g}); DreamFusion uses t_min: 0.02, t_max: 0.98")


def timestep_range(t_min: Schedule, t_max: Schedule, count: int, progress: Progress) -> tuple[int, int]:
    """First and last timestep, both included, of `count` = T at `progress`. Raises ConfigError when the bounds have crossed."""
    low, high = (min(count - 1, round(value_at(bound, progress) * count)) for bound in (t_min, t_max))
    if low > high:
        raise ConfigError(f"t_min passes t_max at step {progress.step} (timesteps {low} and {high}); let their ramps not cross")
    return low, high


def sample_timesteps(batch: int, low: int, high: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Timesteps (B,) int64, one per view, uniform in low..high inclusive. DreamFusion draws t from U(0.02, 0.98) T."""
    return torch.randint(low, high + 1, (batch,), generator=generator, device=generator.device).to(device)
