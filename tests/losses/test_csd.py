"""Classifier score distillation against the closed form, its limit, and its negative prompt."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, agree, ask, at, coefficients, draw, mu, prior, pull, views

from dfw import Progress
from dfw_losses.csd import CSD
from dfw_losses.sds import SDS

NONE = {"": "none"}


@pytest.mark.parametrize("t", [50, 400, 800])
@pytest.mark.parametrize("schedule", [None, FLOW])
def test_it_is_the_direction_from_no_prompt_to_the_prompt_without_noise(t, schedule):
    """c (mu_0 - mu_y), for each draw: the classifier's score of two Gaussians does not depend on z."""
    model = prior(schedule=schedule)
    weight = coefficients(model, t)[1] ** 2
    draws = draw(CSD(CSD.Config(**at(t))), model, NONE, count=50)
    agree(draws, weight * pull(model, t) * (mu("none") - mu("y")))
    assert draws.variance < 1e-20


def test_the_negative_prompts_share_follows_its_ramp():
    model, t = prior(), 400
    loss = CSD(CSD.Config(negative_scale={"from": 1, "to": 0}, weighting="one", **at(t)))
    for step, share in ((0, 1.0), (50, 0.5), (100, 0.0)):
        direction = (mu("none") - mu("y")) + share * (mu("n") - mu("none"))
        agree(draw(loss, model, NONE, Progress(step, 100), count=10), pull(model, t) * direction)


def test_sds_over_its_scale_comes_to_it_as_the_scale_grows():
    """With the same text for "no prompt" and the negative prompt the distance falls as 1 / scale."""
    model, z = prior(), views(4)
    csd = CSD(CSD.Config()).residual(z, ask(z, model, {"": "n"}, seed=2))
    far = [
        (SDS(SDS.Config(guidance_scale=s)).residual(z, ask(z, model, seed=2)) / s - csd).abs().max().item()
        for s in (1e2, 1e4, 1e6)
    ]
    assert far[0] / far[1] == pytest.approx(100, rel=0.05)
    assert far[1] / far[2] == pytest.approx(100, rel=0.05)
    assert far[2] < 1e-5 < csd.abs().max()


def test_the_mixture_of_all_prompts_is_no_prompt_when_the_run_encodes_it():
    """texts() names the empty text; the trainer encodes it, and a prior without prompt is a mixture, not the negative prompt."""
    assert CSD(CSD.Config()).texts() == ("",)
    model, z = prior(), views(3)
    found = CSD(CSD.Config(weighting="one", **at(300))).residual(z, ask(z, model, seed=1, texts={"": ""}))
    query = CSD(CSD.Config(**at(300))).query(z, ask(z, model, seed=1))
    each = [model.predict(query.noisy, query.timestep, model.encode_text([text] * 3)) for text in ("y", "")]
    torch.testing.assert_close(found, each[0] - each[1])
