"""Rectified flow distillation, and its version with corrected noise, against the closed form and against each other."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, STD, agree, ask, at, coefficients, draw, guided_mu, mu, prior, pull, views

from dfw_losses.rfds import RFDS
from dfw_losses.rfds_rev import RFDSRev
from dfw_losses.sds import SDS

SCHEDULES = pytest.mark.parametrize("schedule", [None, FLOW])


@SCHEDULES
@pytest.mark.parametrize("t", [50, 400, 900])
def test_its_mean_is_the_closed_form(t, schedule):
    """(1 + sigma / alpha) c (z - mu_g)."""
    model = prior(schedule=schedule)
    alpha, sigma = coefficients(model, t)
    expected = (1 + sigma / alpha) * pull(model, t) * (views() - guided_mu(5))
    agree(draw(RFDS(RFDS.Config(guidance_scale=5, **at(t))), model), expected)


@SCHEDULES
def test_it_is_sds_of_one_plus_sigma_over_alpha(schedule):
    """Draw by draw, at every t of the batch; for a flow that weight is 1 / alpha."""
    model, z = prior(schedule=schedule), views(30)
    found = RFDS(RFDS.Config()).residual(z, ask(z, model, seed=3))
    for weighting in ("1 + sigma / alpha", *(["1 / alpha"] if schedule else [])):
        sds = SDS(SDS.Config(guidance_scale=50, weighting=weighting)).residual(z, ask(z, model, seed=3))
        torch.testing.assert_close(found, sds, rtol=1e-5, atol=1e-5)


def test_a_network_of_velocities_gives_its_own_residual():
    """For a flow model v_hat is what the network puts out: no epsilon between them."""
    model, z = prior(schedule=FLOW), views(30)
    loss = RFDS(RFDS.Config(guidance_scale=1))
    query = loss.query(z, ask(z, model))
    alpha, sigma = query.alpha_sigma
    noise = sigma * (query.noisy - alpha * mu("y")) / (alpha**2 * STD**2 + sigma**2)
    velocity = (noise - query.noisy) / alpha
    model.predict = lambda noisy, timestep, text: velocity
    model.prediction_type = "flow"
    torch.testing.assert_close(loss.residual(z, ask(z, model)), velocity - (query.noise - z), rtol=1e-5, atol=1e-5)


@SCHEDULES
def test_the_corrected_noise_is_the_prediction_itself(schedule):
    """eps + alpha / (alpha + sigma) (v_y + z - eps), written out, is eps_y(z_t); the rest is RFDS's residual for it."""
    model, z = prior(schedule=schedule), views(30)
    loss = RFDSRev(RFDSRev.Config(guidance_scale=5))
    query = loss.query(z, ask(z, model))
    alpha, sigma = query.alpha_sigma
    variance = alpha**2 * STD**2 + sigma**2
    predicted = sigma * (query.noisy - alpha * mu("y")) / variance
    velocity = predicted - (query.noisy - sigma * predicted) / alpha
    corrected = query.noise + alpha / (alpha + sigma) * (velocity + z - query.noise)
    torch.testing.assert_close(corrected, predicted)
    noisy = alpha * z + sigma * corrected
    guided = sigma * (noisy - alpha * guided_mu(5)) / variance
    torch.testing.assert_close(loss.residual(z, ask(z, model)), (1 + sigma / alpha) * (guided - corrected), rtol=1e-5, atol=1e-5)


@SCHEDULES
@pytest.mark.parametrize("t", [50, 400, 900])
def test_its_mean_with_corrected_noise_is_the_closed_form(t, schedule):
    """(1 + sigma / alpha) c [(z - mu_g) + (sigma^2 / v - 1) (z - mu_y)]: the corrected noise has the mean c (z - mu_y)."""
    model = prior(schedule=schedule)
    alpha, sigma = coefficients(model, t)
    shrink = sigma**2 / (alpha**2 * STD**2 + sigma**2)
    expected = (1 + sigma / alpha) * pull(model, t) * ((views() - guided_mu(5)) + (shrink - 1) * (views() - mu("y")))
    corrected = draw(RFDSRev(RFDSRev.Config(guidance_scale=5, **at(t))), model)
    agree(corrected, expected)
    drawn = draw(RFDS(RFDS.Config(guidance_scale=5, **at(t))), model)
    assert corrected.variance == pytest.approx(shrink**2 * drawn.variance, rel=0.15)
