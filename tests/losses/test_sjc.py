"""Score Jacobian Chaining against SDS draw by draw, and against the denoiser written out."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, agree, ask, at, draw, guided_mu, prior, pull, views

from dfw_losses.score import Score
from dfw_losses.sds import SDS
from dfw_losses.sjc import SJC


@pytest.mark.parametrize("t", [50, 400, 800])
def test_its_mean_is_the_closed_form(t):
    model = prior()
    agree(draw(SJC(SJC.Config(guidance_scale=3, **at(t))), model), pull(model, t) * (views() - guided_mu(3)))


@pytest.mark.parametrize("schedule", [None, FLOW])
def test_with_variance_reduction_it_is_sds_of_weight_one_and_without_the_score_draw_by_draw(schedule):
    model, z = prior(schedule=schedule), views(6)
    for reduced, other in ((True, SDS), (False, Score)):
        sjc = SJC(SJC.Config(guidance_scale=7.5, variance_reduction=reduced)).residual(z, ask(z, model, seed=3))
        same = other(other.Config(guidance_scale=7.5, weighting="one")).residual(z, ask(z, model, seed=3))
        torch.testing.assert_close(sjc, same, rtol=1e-9, atol=1e-10)
