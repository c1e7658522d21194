"""The timesteps of a distillation loss: ranges, draws, tables, each against its own formula."""

from __future__ import annotations

import math

import pytest
import torch
from known_prior import prior
from pydantic import TypeAdapter

from dfw import ConfigError, Progress, Ramp, Schedule
from dfw.distillation.timesteps import (
    check_range,
    choose_timesteps,
    dreamtime_timestep,
    dreamtime_weights,
    sample_timesteps,
    stratified_timesteps,
    timestep_range,
)
from dfw.testing.experimental_device import stand_in
from dfw_losses.sds import SDS

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_timesteps_fill_their_range_evenly() -> None:
    drawn = sample_timesteps(80_000, 20, 27, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert drawn.dtype == torch.int64
    share = torch.bincount(drawn, minlength=30).double() / 80_000
    assert share[:20].sum() == share[28:].sum() == 0
    assert (share[20:28] - 1 / 8).abs().max() < 5 * math.sqrt(1 / 8 * 7 / 8 / 80_000)


def ramp(written: dict[str, object]) -> Schedule:
    """A ramp as a configuration gives it."""
    return TypeAdapter(Schedule).validate_python(written)


def test_timestep_range_follows_the_ramp_and_stays_below_the_end() -> None:
    falling = ramp({"from": 0.98, "to": 0.5, "end": 0.5})
    found = [timestep_range(0.02, falling, 1000, Progress(step, 100)) for step in (0, 25, 50, 99)]
    assert found == [(20, 980), (20, 740), (20, 500), (20, 500)]
    assert timestep_range(0.0, 1.0, 1000, Progress(0, 1)) == (0, 999)
    assert timestep_range(1.0, 1.0, 1000, Progress(0, 1)) == (999, 999)


@pytest.mark.parametrize(("low", "high"), [(0.98, 0.02), (-0.1, 0.5), (0.1, 1.5)])
def test_a_wrong_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="DreamFusion"):
        check_range(low, high)


def test_ramps_that_cross_on_the_way_are_caught() -> None:
    sinking = ramp({"from": 0.9, "to": 0.5, "end": 0.1})
    rising = ramp({"from": 0.1, "to": 0.5, "end": 0.1, "ease": "sqrt"})
    check_range(rising, sinking)
    staying = ramp({"from": 0.8, "to": 0.1, "start": 0.9})
    check_range(staying, sinking)
    with pytest.raises(ConfigError, match="t_min passes t_max at step 50"):
        timestep_range(staying, sinking, 1000, Progress(50, 100))


def test_stratified_views_take_one_part_each_in_random_order():
    drawn = [stratified_timesteps(4, 100, 499, generator(seed), CPU) for seed in range(400)]
    table = torch.stack(drawn)
    assert ((table - 100) // 100).sort(1).values.eq(torch.arange(4)).all()
    assert not ((table - 100) // 100).eq(torch.arange(4)).all()
    share = torch.bincount(table[:, 0] - 100, minlength=400).double().view(4, 100).sum(1) / 400
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 400)  # each view's own t is uniform


def test_stratified_single_view_is_uniform_and_includes_both_ends():
    drawn = torch.cat([stratified_timesteps(1, 3, 6, generator(seed), CPU) for seed in range(400)])
    assert drawn.unique().tolist() == [3, 4, 5, 6]


def test_a_ramp_is_the_timestep_itself():
    how = Ramp.model_validate({"from": 0.98, "to": 0.2, "ease": "sqrt"})
    schedule = prior().schedule
    found = [choose_timesteps(how, 20, 980, 3, schedule, Progress(step, 400), generator()).tolist() for step in (0, 100, 399)]
    assert found == [[980] * 3, [round(980 - 780 * 0.5)] * 3, [round(980 - 780 * math.sqrt(399 / 400))] * 3]


def test_dreamtimes_table_by_an_independent_sum():
    """W(t) and t(i) from the paper's formula, in a plain loop."""
    schedule, low, high = prior().schedule, 20, 980

    def weight(t):
        prior_part = 1.0
        if t > 800:
            prior_part = math.exp(-((t - 800) ** 2) / (2 * 300**2))
        if t < 500:
            prior_part = math.exp(-((t - 500) ** 2) / (2 * 100**2))
        return prior_part * float(schedule.sigma[t].double() / schedule.alpha[t].double())

    total = sum(weight(t) for t in range(low, high + 1))
    torch.testing.assert_close(
        dreamtime_weights(schedule, low, high),
        torch.tensor([weight(t) / total for t in range(low, high + 1)], dtype=torch.float64),
        rtol=1e-9,
        atol=1e-12,
    )
    for step in (0, 70, 150, 199):
        distance = {}
        upper = 0.0
        for t in range(high, low - 1, -1):
            upper += weight(t) / total
            distance[t] = abs(upper - step / 200)
        assert dreamtime_timestep(schedule, low, high, Progress(step, 200)).item() == min(distance, key=distance.get)


def test_dreamtime_never_rises_and_stays_in_its_range():
    schedule = prior().schedule
    found = [dreamtime_timestep(schedule, 20, 980, Progress(step, 300)).item() for step in range(300)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 980
    assert 20 <= found[-1] < 500


def test_timesteps_in_a_configuration():
    assert SDS.Config.model_validate({"timesteps": "dreamtime"}).timesteps == "dreamtime"
    with pytest.raises(ValueError, match=r"timesteps: 1.2 must lie in \[0, 1\]"):
        SDS.Config.model_validate({"timesteps": {"from": 1.2, "to": 0.1}})
    with pytest.raises(ValueError, match="uniform"):
        SDS.Config.model_validate({"timesteps": "unifrom"})


def test_a_list_is_drawn_from_without_a_wait_for_the_device() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a real second device")
    with stand_in() as there:
        schedule = prior().schedule.to(there.device)
        there.waits.clear()
        drawn = choose_timesteps((249, 499), 20, 750, 4, schedule, Progress(0, 1), torch.Generator(there.device).manual_seed(0))
        assert there.waits == []
        assert drawn.device == there.device
        assert set(drawn.tolist()) <= {249, 499}


def test_a_list_is_drawn_from_evenly_within_the_range() -> None:
    schedule, now = prior().schedule, Progress(0, 10)
    drawn = choose_timesteps((249, 499, 749, 999), 20, 750, 30_000, schedule, now, generator())
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [249, 499, 749]
    assert (counts / 30_000 - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / 30_000)
    with pytest.raises(ConfigError, match="none of 249, 999 lies in 300 to 900, the range of t_min and t_max"):
        choose_timesteps((249, 999), 300, 900, 1, schedule, now, generator())
    assert SDS.Config(timesteps=[249, 499]).timesteps == (249, 499)
    with pytest.raises(ValueError, match="timesteps"):
        SDS.Config(timesteps=[-1])
