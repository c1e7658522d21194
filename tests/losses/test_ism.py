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


def test_each_view_has_its_own_path(monkeypatch):
    """Timesteps differ within a batch; views one by one give the same."""
    model, z = prior(), views(5)
    loss = ISM(ISM.Config())
    timestep = loss.query(z, ask(z, model, NONE)).timestep
    together = loss.residual(z, ask(z, model, NONE))
    for view, t in enumerate(timestep.tolist()):
        alone = ISM(ISM.Config(**at(t))).residual(z[:1], ask(z[:1], model, NONE))
        torch.testing.assert_close(together[view : view + 1], alone)
