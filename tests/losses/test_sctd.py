"""Segmented consistency trajectory distillation against a recursion in plain numbers, the middle of the segment summed out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ddim_path import predicted
from known_prior import FLOW, agree, ask, at, coefficients, draw, guided_mu, mu, prior, views

from dfw_losses.sctd import SCTD, segment_end

NONE = {"": "none"}


def step(model, z, t, to, noise):
    """DDIM as z' = (a'/a) z + (s' - s a'/a) eps."""
    (a, s), (a_to, s_to) = coefficients(model, t), coefficients(model, to)
    return a_to / a * z + (s_to - s * a_to / a) * noise


def mean(model, t, end, scale):
    """E d: every map is affine in the noise, so the noise is 0; the middle is s = end + round(u (t - end))."""
    start = coefficients(model, end)[0] * views()
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    middles, counts = (end + torch.round(uniform * (t - end)).long()).unique(return_counts=True)
    total = 0
    for middle, count in zip(middles.tolist(), counts.tolist(), strict=True):
        up = step(model, start, end, middle, predicted(model, start, end, mu("none")))
        up = step(model, up, middle, t, predicted(model, up, middle, mu("none")))
        guided = predicted(model, up, t, guided_mu(scale))
        down = step(model, up, t, middle, guided)
        by_two = step(model, down, middle, end, predicted(model, down, middle, mu("none")))
        by_one = step(model, up, t, end, guided)
        total = total + count / 100_000 * ((by_two - start) + (scale + 1) * (start - by_one))
    return total


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "segments", "end"), [(90, 5, 0), (400, 5, 200), (401, 5, 400), (620, 3, 333), (950, 1, 0)])
def test_its_mean_is_the_recursion(t, segments, end, schedule):
    model = prior(schedule=schedule)
    loss = SCTD(SCTD.Config(guidance_scale=3, segments=segments, weighting="one", **at(t)))
    agree(draw(loss, model, NONE), mean(model, t, end, 3))


def test_its_weight_is_sigma_over_alpha_by_default():
    model, t = prior(), 600
    alpha, sigma = coefficients(model, t)
    one, default = (draw(SCTD(SCTD.Config(**at(t), **w)), model, NONE, count=3).mean for w in ({"weighting": "one"}, {}))
    torch.testing.assert_close(default, sigma / alpha * one)


def test_with_the_paths_own_prediction_only_the_error_of_its_steps_is_left():
    """k = 0 and the empty text for the negative one: down by one step and by two ends at the same place, in short segments."""
    found = {}
    for segments in (5, 20, 80):
        model, t = prior(), 700 + 1000 // segments // 2
        inputs = ask(views(400), model, NONE)
        inputs = replace(inputs, prompt=replace(inputs.prompt, negative=inputs.prompt.texts[""]))
        loss = SCTD(SCTD.Config(guidance_scale=0, segments=segments, weighting="one", **at(t)))
        found[segments] = loss.residual(views(400), inputs)
    sizes = [float(found[segments].square().mean().sqrt()) for segments in (5, 20, 80)]
    assert sizes[0] > 10 * sizes[1] > 100 * sizes[2] > 0


def test_each_view_has_its_own_segment_and_middle():
    """Views one by one, each with the draws it has in the batch, give the same."""
    model, z = prior(), views(6)
    loss, inputs = SCTD(SCTD.Config()), ask(z, model, NONE)
    query = loss.query(z, inputs)
    draws = torch.rand(6, generator=inputs.generator)
    together = loss.residual(z, ask(z, model, NONE))
    ends = segment_end(query.timestep, 1000, 5)
    for view, (t, end, u) in enumerate(zip(query.timestep.tolist(), ends.tolist(), draws.tolist(), strict=True)):
        middle, eps = end + round(u * (t - end)), query.noise[view : view + 1]
        alpha, sigma = coefficients(model, end)
        start = alpha * z[:1] + sigma * eps
        up = step(model, start, end, middle, predicted(model, start, end, mu("none")))
        up = step(model, up, middle, t, predicted(model, up, middle, mu("none")))
        guided = predicted(model, up, t, guided_mu(7.5))
        down = step(model, up, t, middle, guided)
        by_two = step(model, down, middle, end, predicted(model, down, middle, mu("none")))
        alpha, sigma = coefficients(model, t)
        expected = sigma / alpha * ((by_two - start) + 8.5 * (start - step(model, up, t, end, guided)))
        torch.testing.assert_close(together[view : view + 1], expected)


def test_views_that_a_model_sees_at_once_share_their_middle(monkeypatch):
    model, z, seen = prior(), views(6), []
    inputs = ask(z, model, NONE)
    inputs = replace(inputs, views=replace(inputs.views, cameras=replace(inputs.cameras, together=3)))
    inner = model.predict
    monkeypatch.setattr(model, "predict", lambda *given: seen.append(given[1]) or inner(*given))
    SCTD(SCTD.Config()).residual(z, inputs)
    assert len(seen) == 4
    assert all((times.view(-1, 3) == times.view(-1, 3)[:, :1]).all() for times in seen)
    assert len(seen[1].unique()) == 2


def test_a_segment_holds_its_upper_end():
    found = segment_end(torch.tensor([0, 1, 200, 201, 400, 999]), 1000, 5)
    assert found.tolist() == [0, 0, 0, 200, 200, 800]
    assert segment_end(torch.tensor([333, 334, 667, 668]), 1000, 3).tolist() == [0, 333, 333, 667]
