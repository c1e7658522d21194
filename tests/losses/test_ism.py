"""Interval score matching against an independent recursion in plain numbers."""

from __future__ import annotations

import pytest
import torch
from ddim_path import climb, predicted
from known_prior import FLOW, agree, ask, at, coefficients, draw, guided_mu, mu, prior, views

from dfw_losses.ism import ISM

NONE = {"": "none"}


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "steps"), [(100, 1), (500, 3), (900, 4)])
def test_it_is_the_recursion_on_one_path(t, steps, schedule):
    model, before = prior(schedule=schedule), t - 50
    times = [round(before * i / steps) for i in range(1, steps + 1)]
    start = climb(model, views(), times, mu("none"))
    end = climb(model, views(), [*times, t], mu("none"))
    expected = predicted(model, end, t, guided_mu(7.5)) - predicted(model, start, before, mu("none"))
    loss = ISM(ISM.Config(weighting="one", inversion_steps=steps, **at(t)))
    draws = draw(loss, model, NONE, count=3)
    agree(draws, expected)
    assert draws.variance == 0


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "gamma", "between"), [(500, 0.3, 498), (500, 0.8, 480), (900, 0.0, 900), (30, 0.6, 24)])
def test_below_1_gamma_moves_the_second_prediction_along_the_last_step(t, gamma, between, schedule):
    """mu = s + (t - s) sqrt(1 - gamma^2), s = t - 50 or 0; z_mu comes from z_s with the noise predicted there. TSM."""
    model, before = prior(schedule=schedule), max(t - 50, 0)
    times = [round(before * i / 3) for i in range(1, 4)]
    end, middle = (climb(model, views(), [*times, to], mu("none")) for to in (t, between))
    expected = predicted(model, end, t, guided_mu(7.5)) - predicted(model, middle, between, mu("none"))
    draws = draw(ISM(ISM.Config(weighting="one", gamma=gamma, **at(t))), model, NONE, count=3)
    agree(draws, expected)
    assert draws.variance == 0


def test_a_gamma_whose_mu_is_s_is_ism():
    """gamma = 1, and every gamma that rounds to s: one more prediction at the same place."""
    model, z = prior(), views(20)
    ism = ISM(ISM.Config()).residual(z, ask(z, model, NONE))
    assert torch.equal(ISM(ISM.Config(gamma=1)).residual(z, ask(z, model, NONE)), ism)
    torch.testing.assert_close(ISM(ISM.Config(gamma=0.99999)).residual(z, ask(z, model, NONE)), ism)
    assert (ISM(ISM.Config(gamma=0.3)).residual(z, ask(z, model, NONE)) - ism).abs().max() > 0.01


@pytest.mark.parametrize(("options", "calls"), [({}, 5), ({"gamma": 0.3}, 6)])
def test_its_network_calls(options, calls, monkeypatch):
    model, seen = prior(), []
    inner = model.predict
    monkeypatch.setattr(model, "predict", lambda *given: seen.append(len(given[0])) or inner(*given))
    ISM(ISM.Config(**options)).residual(views(2), ask(views(2), model, NONE))
    assert seen == [2] * (calls - 1) + [4]


def test_its_weight_is_sigma_over_alpha_by_default():
    model, t = prior(), 600
    alpha, sigma = coefficients(model, t)
    one, default = (draw(ISM(ISM.Config(**at(t), **w)), model, NONE, count=2).mean for w in ({"weighting": "one"}, {}))
    torch.testing.assert_close(default, sigma / alpha * one)


def test_an_interval_longer_than_t_starts_at_the_clean_end():
    model, t = prior(), 20
    found = draw(ISM(ISM.Config(weighting="one", interval=0.5, inversion_steps=2, **at(t))), model, NONE, count=2).mean
    start = climb(model, views(), [0, 0], mu("none"))
    end = climb(model, views(), [0, 0, t], mu("none"))
    torch.testing.assert_close(found, predicted(model, end, t, guided_mu(7.5)) - predicted(model, start, 0, mu("none")))


@pytest.mark.parametrize("gamma", [1, 0.3])
def test_each_view_has_its_own_path(gamma):
    """Timesteps differ within a batch; views one by one give the same."""
    model, z = prior(), views(5)
    loss = ISM(ISM.Config(gamma=gamma))
    timestep = loss.query(z, ask(z, model, NONE)).timestep
    together = loss.residual(z, ask(z, model, NONE))
    for view, t in enumerate(timestep.tolist()):
        alone = ISM(ISM.Config(gamma=gamma, **at(t))).residual(z[:1], ask(z[:1], model, NONE))
        torch.testing.assert_close(together[view : view + 1], alone)
