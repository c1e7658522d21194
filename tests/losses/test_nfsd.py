"""Noise-free score distillation against the closed form, on both sides of its switch."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, agree, ask, at, coefficients, draw, mu, prior, pull, views

from dfw_losses.nfsd import NFSD, UGLY

TEXTS = {"": "none", UGLY: "bad"}


@pytest.mark.parametrize("t", [200, 400, 800])
@pytest.mark.parametrize("schedule", [None, FLOW])
def test_above_the_switch_two_directions_and_no_noise(t, schedule):
    """c [(mu_bad - mu_0) + s (mu_0 - mu_y)]."""
    model = prior(schedule=schedule)
    direction = (mu("bad") - mu("none")) + 7.5 * (mu("none") - mu("y"))
    draws = draw(NFSD(NFSD.Config(**at(t))), model, TEXTS, count=20)
    agree(draws, coefficients(model, t)[1] ** 2 * pull(model, t) * direction)
    assert draws.variance < 1e-20


@pytest.mark.parametrize("t", [30, 199])
def test_below_it_the_unconditional_prediction_itself(t):
    """E = c [(z - mu_0) + s (mu_0 - mu_y)], with noise."""
    model = prior()
    expected = pull(model, t) * ((views() - mu("none")) + 7.5 * (mu("none") - mu("y")))
    draws = draw(NFSD(NFSD.Config(weighting="one", **at(t))), model, TEXTS)
    agree(draws, expected)
    assert draws.variance > 1e-4


def test_views_on_both_sides_in_one_batch():
    """The switch is looked at for each view."""
    model, z = prior(), views(200)
    loss = NFSD(NFSD.Config(weighting="one"))
    query = loss.query(z, ask(z, model, TEXTS))
    found = loss.residual(z, ask(z, model, TEXTS))
    none, bad, y = (model.predict(query.noisy, query.timestep, model.encode_text([text] * 200)) for text in ("none", "bad", "y"))
    low = query.timestep < 200
    assert 10 < low.sum() < 100
    torch.testing.assert_close(found[low], (none + 7.5 * (y - none))[low])
    torch.testing.assert_close(found[~low], (none - bad + 7.5 * (y - none))[~low])


def test_the_texts_it_asks_for():
    assert NFSD(NFSD.Config()).texts() == ("", UGLY)
    assert NFSD(NFSD.Config(negative_prompt="a brown cube")).texts() == ("", "a brown cube")
