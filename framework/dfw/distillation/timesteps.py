"""Which timesteps a distillation loss looks at: drawn in a range that may move during the run, or a function of the step.

Legend: B views, T timesteps of the guidance's schedule; configurations give timesteps as fractions of T.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from dfw.config.schedules import Progress, Ramp, Schedule, value_at
from dfw.errors import ConfigError
from dfw.interfaces.data import NoiseSchedule

Timesteps = Literal["uniform", "stratified", "dreamtime"] | Ramp | tuple[NonNegativeInt, ...]
"""uniform: each view's t from U(t_min, t_max) (DreamFusion). stratified: one view in each of B equal parts of that range, in
random order. dreamtime: the non-increasing table of DreamTime over that range. A ramp: t itself, the same for all views, as a
fraction (HiFA: {from: 0.98, to: 0.2, ease: sqrt}). A list: those timesteps of it that lie in the range, for a model that was
distilled at a few (SD-Turbo: [249, 499, 749, 999])."""

_M1, _M2, _S1, _S2 = 0.8, 0.5, 0.3, 0.1
"""DreamTime's m1, m2, s1, s2 as fractions of T; the paper's 800, 500, 300, 100 of 1,000."""


def bounds_of(schedule: Schedule) -> tuple[float, float]:
    """The schedule's first and last value."""
    return (float(schedule), float(schedule)) if isinstance(schedule, int | float) else (schedule.from_, schedule.to)


def check_range(t_min: Schedule, t_max: Schedule) -> None:
    """Raises ValueError unless both stay inside [0, 1] and t_min lies below t_max at the first and the last step."""
    check_fractions("t_min", t_min)
    check_fractions("t_max", t_max)
    for low, high in zip(bounds_of(t_min), bounds_of(t_max), strict=True):
        if low > high:
            raise ValueError(f"t_min ({low:g}) lies above t_max ({high:g}); DreamFusion uses t_min: 0.02, t_max: 0.98")


def check_fractions(name: str, schedule: Schedule) -> None:
    """Raises ValueError, which calls it `name`, when an end of `schedule` leaves [0, 1]."""
    for value in bounds_of(schedule):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value:g} must lie in [0, 1], a fraction of all timesteps; DreamFusion uses 0.02 to 0.98")


def timestep_range(t_min: Schedule, t_max: Schedule, count: int, progress: Progress) -> tuple[int, int]:
    """First and last timestep, both included, of `count` = T at `progress`. Raises ConfigError when the bounds have crossed."""
    low, high = (timestep_of(value_at(bound, progress), count) for bound in (t_min, t_max))
    if low > high:
        raise ConfigError(f"t_min passes t_max at step {progress.step} (timesteps {low} and {high}); let their ramps not cross")
    return low, high


def timestep_of(fraction: float, count: int) -> int:
    """The timestep of a `fraction` in [0, 1] of `count` = T, in 0 .. T - 1."""
    return min(count - 1, round(fraction * count))


def sample_timesteps(batch: int, low: int, high: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Timesteps (B,) int64, one per view, uniform in low..high inclusive. DreamFusion draws t from U(0.02, 0.98) T."""
    return torch.randint(low, high + 1, (batch,), generator=generator, device=generator.device).to(device)


def stratified_timesteps(batch: int, low: int, high: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Timesteps (B,) int64: one uniform draw in each of B equal parts of low..high inclusive, shuffled over the views.

    Each view's own t is uniform still, and the mean over the batch varies less. Shuffled, since the cameras of a batch may be
    stratified too.
    """
    place = torch.arange(batch, device=generator.device, dtype=torch.float64)
    place = (place + torch.rand(batch, generator=generator, device=generator.device, dtype=torch.float64)) / batch
    drawn = (low + (place * (high - low + 1)).floor().long()).clamp_max(high)
    return drawn[torch.randperm(batch, generator=generator, device=generator.device)].to(device)


def dreamtime_weights(schedule: NoiseSchedule, low: int, high: int) -> Tensor:
    """W(t) of t = low..high, float64, sum 1: sigma_t / alpha_t, falling off as Gaussians above m1 and below m2.

    DreamTime (Huang et al. 2023), the weight of its time-prioritised sampling, W_d W_p / Z.
    """
    timestep = torch.arange(low, high + 1, device=schedule.alpha.device, dtype=torch.float64)
    place = timestep / len(schedule)
    above, below = (place - _M1).clamp_min(0), (_M2 - place).clamp_min(0)
    prior = torch.exp(-(above**2) / (2 * _S1**2) - below**2 / (2 * _S2**2))
    weight = prior * schedule.sigma[low : high + 1].double() / schedule.alpha[low : high + 1].double()
    return weight / weight.sum()


def dreamtime_timestep(schedule: NoiseSchedule, low: int, high: int, progress: Progress) -> Tensor:
    """The t (scalar int64) in low..high whose upper sum of W comes nearest to step / steps; never rises during a run.

    t(i) = argmin_t' |sum_{t >= t'} W(t) - i / N|. DreamTime (Huang et al. 2023).
    """
    upper = dreamtime_weights(schedule, low, high).flip(0).cumsum(0).flip(0)
    return low + (upper - progress.fraction).abs().argmin()


def choose_timesteps(
    how: Timesteps, low: int, high: int, batch: int, schedule: NoiseSchedule, progress: Progress, generator: torch.Generator
) -> Tensor:
    """Timesteps (B,) int64 on the schedule's device, as `how` says, in low..high (a ramp names its own)."""
    device = schedule.alpha.device
    if isinstance(how, Ramp):
        return torch.full((batch,), timestep_of(how.at(progress), len(schedule)), device=device)
    if how == "dreamtime":
        return dreamtime_timestep(schedule, low, high, progress).expand(batch)
    if isinstance(how, tuple):
        inside = [timestep for timestep in how if low <= timestep <= high]
        if not inside:
            raise ConfigError(
                f"timesteps: none of {', '.join(map(str, how))} lies in {low} to {high}, the range of t_min and t_max"
            )
        place = torch.randint(len(inside), (batch,), generator=generator, device=generator.device).to(device)
        table = torch.stack([torch.full((), timestep, device=device) for timestep in inside])  # a list to copy would wait
        return table.index_select(0, place)
    draw = stratified_timesteps if how == "stratified" else sample_timesteps
    return draw(batch, low, high, generator, device)
