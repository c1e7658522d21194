"""Score distillation via inversion: the step to the denoised image, on a path worked out in plain numbers."""

from __future__ import annotations

import pytest
from ddim_path import climb, predicted
from known_prior import FLOW, agree, at, coefficients, draw, guided_mu, prior, views

from dfw_losses.sdi import SDI


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "steps"), [(100, 1), (500, 10), (900, 4)])
def test_it_is_the_image_minus_its_denoised_one(t, steps, schedule):
    """With w = sigma / alpha: z - x0_hat(z_t), the guided prediction at z_t pulling to one point, the inversion to another."""
    model = prior(schedule=schedule)
    alpha, sigma = coefficients(model, t)
    noisy = climb(model, views(), [round(t * i / steps) for i in range(1, steps + 1)], guided_mu(-7.5))
    denoised = (noisy - sigma * predicted(model, noisy, t, guided_mu(7.5))) / alpha
    draws = draw(SDI(SDI.Config(inversion_steps=steps, **at(t))), model, count=3)
    agree(draws, views() - denoised)
    assert draws.variance < 1e-20
