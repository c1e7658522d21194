"""The score estimator without control variate, against the closed form."""

from __future__ import annotations

import pytest
from known_prior import FLOW, agree, at, coefficients, draw, guided_mu, prior, pull, views

from dfw_losses.score import Score


@pytest.mark.parametrize("t", [50, 400, 800])
@pytest.mark.parametrize("schedule", [None, FLOW])
def test_its_mean_is_the_closed_form_of_sds(t, schedule):
    """E eps_hat = E (eps_hat - eps) = c (z - mu), also for a schedule that does not preserve variance."""
    model = prior(schedule=schedule)
    _, sigma = coefficients(model, t)
    expected = sigma**2 * pull(model, t) * (views() - guided_mu(3))
    agree(draw(Score(Score.Config(guidance_scale=3, **at(t))), model), expected, power=5)
