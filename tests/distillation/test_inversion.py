"""DDIM backwards against the differential equation that it solves, and back to where it began."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from known_prior import STD, coefficients, prior, views

from dfw.distillation.inversion import ddim_move, invert
from dfw_guidance.gaussian import Gaussian


def test_many_inversion_steps_reach_the_solution_of_the_differential_equation():
    """(z - alpha mu) / sqrt(v) is constant along it, from s at the clean end; the error falls as 1 / steps."""
    model, t = Gaussian(Gaussian.Config(means={"y": (0.9, 0.2, 0.4)}, std=STD, resolution=2)).double(), 700
    text = model.encode_text(["y"])
    alpha, sigma = coefficients(model, t)
    mean = model.means.double()
    exact = alpha * mean + (views() - mean) * ((alpha**2 * STD**2 + sigma**2) / STD**2) ** 0.5

    def error(steps):
        found = invert(model, views(), torch.tensor([t]), steps, lambda z, at_time: model.predict_noise(z, at_time, text))
        return (found - exact).abs().max().item()

    errors = [error(steps) for steps in (25, 50, 100)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] / errors[2] == pytest.approx(4, rel=0.35)
    assert errors[2] < 0.03 * exact.abs().max()


def test_ddim_down_the_same_path_comes_back_to_the_image():
    """The error is that of the path's steps, and falls with them."""
    model, t = prior(), 400
    text = model.encode_text(["y"])

    def there_and_back(steps):
        noisy = invert(model, views(), torch.tensor([t]), steps, lambda z, at_time: model.predict_noise(z, at_time, text))
        times = [torch.tensor([round(t * i / steps)]) for i in range(steps, -1, -1)]
        for now, after in pairwise(times):
            noisy = ddim_move(model, noisy, model.predict_noise(noisy, now, text), now, after)
        return (noisy - views()).abs().max().item()

    errors = [there_and_back(steps) for steps in (5, 20, 80)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.06
