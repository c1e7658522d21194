"""Asynchronous score distillation against the closed form, the shift's distribution summed out."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, agree, ask, at, coefficients, draw, guided_mu, mu, prior, pull, views

from dfw_losses.asd import ASD

T_MIN = 0.02


def at_time(t: int) -> dict[str, object]:
    """A fixed t, with the shift's room counted from T_MIN."""
    return {"timesteps": {"from": t / 1000, "to": t / 1000}, "t_min": T_MIN}


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "shift"), [(200, 0.1), (500, 0.5), (800, 0.1)])
def test_its_mean_is_the_closed_form(t, shift, schedule):
    """c(t) (z - mu_g) - E c(t') (z - mu_y), t' = t + round(u shift (t - t_min)), at most the last."""
    model = prior(schedule=schedule)
    uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    later = (t + torch.round(uniform * shift * (t - T_MIN * 1000)).long()).clamp_max(999)
    values, counts = later.unique(return_counts=True)
    mean_pull = sum(pull(model, v) * n for v, n in zip(values.tolist(), counts.tolist(), strict=True)) / 200_000
    expected = pull(model, t) * (views() - guided_mu(7.5)) - mean_pull * (views() - mu("y"))
    agree(draw(ASD(ASD.Config(weighting="one", shift=shift, **at_time(t))), model), expected)


def test_both_predictions_see_the_same_noise():
    """Without shift and guidance nothing is left, draw by draw; other noise at t' would have left a large variance."""
    model = prior()
    still = draw(ASD(ASD.Config(guidance_scale=1, shift=0, **at_time(500))), model, count=50)
    assert still.mean.abs().max() < 1e-12
    shifted = draw(ASD(ASD.Config(weighting="one", guidance_scale=1, shift=0.1, **at_time(500))), model)
    alpha, sigma = coefficients(model, 500)
    alone = (sigma**2 / (alpha**2 * 0.09 + sigma**2)) ** 2  # variance of one prediction
    assert shifted.variance < 0.02 * alone


def test_the_shift_stays_inside_the_schedule():
    model, z = prior(), views(50)
    found = ASD(ASD.Config(shift=1, **at(999))).residual(z, ask(z, model))
    assert torch.isfinite(found).all()
