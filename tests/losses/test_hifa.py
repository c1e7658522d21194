"""HiFA's two terms against the closed form, and its timesteps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_prior import COUNT, FLOW, agree, ask, at, coefficients, draw, guided_mu, prior, pull, views

from dfw import ConfigError, Progress, RenderOutput
from dfw_losses.hifa import HiFA
from dfw_losses.sds import SDS


def hifa(t: int, **options: object) -> HiFA:
    return HiFA(HiFA.Config.model_validate({"timesteps": "uniform", "guidance_scale": 3, **at(t), **options}))


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize("t", [50, 400, 800])
def test_the_latent_terms_mean_is_the_closed_form(t, schedule):
    """E (z - x0) = sigma / alpha c (z - mu) = sigma^2 / v (z - mu)."""
    model = prior(schedule=schedule)
    alpha, sigma = coefficients(model, t)
    agree(draw(hifa(t), model), sigma / alpha * pull(model, t) * (views() - guided_mu(3)))


def test_the_latent_term_is_sigma_over_alpha_times_sds_draw_by_draw():
    model, z = prior(), views(5)
    sds = SDS(SDS.Config(guidance_scale=3, weighting="sigma-over-alpha")).residual(z, ask(z, model, seed=2))
    found = HiFA(HiFA.Config(guidance_scale=3, timesteps="uniform")).residual(z, ask(z, model, seed=2))
    torch.testing.assert_close(found, sds)


@pytest.mark.parametrize("share", [0.0, 1.0, 4.0])
def test_the_image_term_adds_its_share(share):
    """At the image x = (z + 1) / 2: 2 (z - x0) / B through the encoding, and k (x - decode(x0)) / B = k (z - x0) / 2 / B."""
    model, t = prior(), 30  # so little noise that no denoised colour leaves [0, 1], where decoding clips
    z = (0.5 * views(COUNT)).clone()
    image = ((z + 1) / 2).requires_grad_()
    inputs = ask(2 * image - 1, model)
    hifa(t, guidance_scale=1, image_weight=share)(inputs).backward()
    drawn = image.grad * COUNT
    alpha, sigma = coefficients(model, t)
    expected = (2 + share / 2) * sigma / alpha * pull(model, t) * (z[:1] - guided_mu(1))
    error = drawn.std(0, keepdim=True) / COUNT**0.5
    assert ((drawn.mean(0, keepdim=True) - expected) / error).abs().max() < 5
    assert (expected / error).abs().max() > 50  # a share off by one would be twelve errors away


def test_clipping_bounds_both_terms():
    """Both far beyond the bound and of one sign: 2 limit through the encoding, and limit at the image."""
    model, z, limit = prior(), 0.5 * views(3), 1e-4
    image = ((z + 1) / 2).requires_grad_()
    hifa(30, guidance_scale=1, image_weight=4.0, clip={"limit": limit})(ask(2 * image - 1, model)).backward()
    torch.testing.assert_close(image.grad.abs() * 3, torch.full_like(z, 3 * limit))


def test_its_timestep_falls_as_a_square_root_for_all_views_alike():
    loss, model, z = HiFA(HiFA.Config()), prior(), views(3)
    found = [loss.query(z, ask(z, model, progress=Progress(step, 100))).timestep.tolist() for step in (0, 25, 100)]
    assert found == [[980] * 3, [590] * 3, [200] * 3]  # .98 - .78 sqrt(i / N)


def test_a_scene_of_latents_has_no_image_term():
    model, z = prior(), views(1)
    inputs = ask(z, model)
    latent = RenderOutput(z.permute(0, 2, 3, 1), inputs.render.opacity, inputs.render.depth, latent=True)
    inputs = replace(inputs, render=latent)
    with pytest.raises(ConfigError, match="image_weight: 0"):
        hifa(300)(inputs)
    assert torch.isfinite(hifa(300, image_weight=0)(inputs))
