"""The denoised target against the closed form of a Gaussian prior, and what it compares where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_prior import FLOW, STD, ask, at, coefficients, guided_mu, prior, views
from pydantic import ValidationError

from dfw import Progress, RenderOutput
from dfw_losses.hifa import HiFA
from dfw_losses.img2img import Img2Img


def loss(t: int, **options: object) -> Img2Img:
    return Img2Img(Img2Img.Config.model_validate({"timesteps": "uniform", "guidance_scale": 3, **at(t), **options}))


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "steps"), [(50, 1), (400, 2), (800, 5)])
def test_every_step_scales_the_distance_to_the_mean(t, steps, schedule):
    """With u = z_t - alpha mu, v = alpha^2 s^2 + sigma^2: a step makes (alpha' alpha s^2 + sigma' sigma) / v u of it, the last
    alpha s^2 / v u. So z0 - mu is a product of known numbers times the first u."""
    model, z = prior(schedule=schedule), views(3)
    made, mu, s = loss(t, steps=steps), guided_mu(3), STD
    found = made.residual(z, ask(z, model, seed=5))
    alpha, sigma = coefficients(model, t)
    apart = alpha * (z - mu) + sigma * made.query(z, ask(z, model, seed=5)).noise
    for left in range(steps - 1, -1, -1):
        v = alpha**2 * s**2 + sigma**2
        if left:
            after = coefficients(model, round(t * left / steps))
            apart, (alpha, sigma) = (after[0] * alpha * s**2 + after[1] * sigma) / v * apart, after
        else:
            apart = alpha * s**2 / v * apart
    torch.testing.assert_close(found, z - mu - apart, rtol=1e-4, atol=1e-5)


def test_one_step_is_hifas_latent_term():
    model, z = prior(), views(4)
    one = loss(300, steps=1).residual(z, ask(z, model, seed=2))
    hifa = HiFA(HiFA.Config.model_validate({"timesteps": "uniform", "guidance_scale": 3, **at(300)}))
    torch.testing.assert_close(one, hifa.residual(z, ask(z, model, seed=2)))


def test_the_picture_is_pulled_to_the_decoded_target_and_the_encoder_gets_nothing():
    """At x = (z + 1) / 2 that is (x - decode(z0)) / B = (z - z0) / 2 / B, for colours in range."""
    model, z = prior(), 0.3 * views(3)
    image = ((z + 1) / 2).requires_grad_()
    encoded = 2 * image - 1
    inputs = ask(encoded, model, seed=1)
    loss(40, steps=4, guidance_scale=1)(inputs).backward()
    away = loss(40, steps=4, guidance_scale=1).residual(z, ask(z, model, seed=1))
    torch.testing.assert_close(image.grad, away / 2 / 3)


def test_latents_are_compared_as_they_are():
    model, z = prior(), views(2)
    inputs = ask(z, model, seed=3)
    leaf = z.permute(0, 2, 3, 1).clone().requires_grad_()
    render = RenderOutput(leaf, inputs.render.opacity, inputs.render.depth, latent=True)
    loss(200)(replace(inputs, render=render)).backward()
    away = loss(200).residual(z, ask(z, model, seed=3))
    torch.testing.assert_close(leaf.grad.permute(0, 3, 1, 2), away / 2)


def test_noise_and_steps_fall_during_a_run():
    model, z = prior(), views(2)
    made = Img2Img(Img2Img.Config.model_validate({"steps": {"from": 10, "to": 2}}))
    found = [made.query(z, ask(z, model, progress=Progress(step, 100))).timestep.tolist() for step in (0, 100)]
    assert found == [[200] * 2, [50] * 2]
    calls = []
    inner = model.predict
    model.predict = lambda *given: (calls.append(1), inner(*given))[1]
    for step, count in ((0, 10), (50, 6), (100, 2)):
        calls.clear()
        made.residual(z, ask(z, model, progress=Progress(step, 100)))
        assert len(calls) == count


def test_no_step_is_refused():
    with pytest.raises(ValidationError, match="steps: 0 denoises nothing; write 1 or more"):
        Img2Img.Config(steps=0)
