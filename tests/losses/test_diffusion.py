"""The diffusion objective's full gradient: against the closed form, and against finite differences of the objective."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, STD, agree, ask, at, coefficients, draw, guided_mu, mu, prior, pull, views

from dfw.config.load import load_config
from dfw_guidance.gaussian import Gaussian
from dfw_losses.diffusion import Diffusion
from dfw_losses.sds import SDS


@pytest.mark.parametrize("t", [50, 400, 800])
@pytest.mark.parametrize("schedule", [None, FLOW])
def test_its_mean_is_the_closed_form_with_the_jacobian(t, schedule):
    """2 alpha J E (eps_hat - eps), J = sigma / v = c / alpha for a Gaussian."""
    model = prior(schedule=schedule)
    jacobian = pull(model, t) / coefficients(model, t)[0]
    expected = 2 * coefficients(model, t)[0] * jacobian * pull(model, t) * (views() - guided_mu(3))
    agree(draw(Diffusion(Diffusion.Config(guidance_scale=3, **at(t))), model), expected)


def test_it_is_sds_times_twice_alpha_times_the_jacobian_draw_by_draw():
    model, z, t = prior(), views(4), 300
    full = Diffusion(Diffusion.Config(guidance_scale=3, weighting="one", **at(t))).residual(z, ask(z, model, seed=1))
    sds = SDS(SDS.Config(guidance_scale=3, weighting="one", **at(t))).residual(z, ask(z, model, seed=1))
    torch.testing.assert_close(full, 2 * pull(model, t) * sds)


def test_by_default_and_as_shipped_it_is_the_training_objective_without_guidance():
    """2 alpha J^T (eps_y - eps), J = sigma / v: the negative prompt has no say."""
    model, z, t = prior(), views(4), 300
    loss = Diffusion(Diffusion.Config(**at(t)))
    noise = loss.query(z, ask(z, model)).noise
    alpha, sigma = coefficients(model, t)
    residual = sigma * (alpha * (z - mu("y")) + sigma * noise) / (alpha**2 * STD**2 + sigma**2) - noise
    torch.testing.assert_close(loss.residual(z, ask(z, model)), 2 * pull(model, t) * residual)
    assert load_config("diffusion").losses["sds"].guidance_scale == 1


def test_on_a_mixture_it_is_the_finite_difference_of_the_objective():
    """Not linear: the Jacobian varies from draw to draw, and only the full chain rule gives the objective's slope."""
    means = {"y": [{"mean": (0.9, 0.2, 0.4), "weight": 2}, {"mean": (0.1, 0.8, 0.5)}], "n": (0.4, 0.4, 0.4)}
    model = Gaussian(Gaussian.Config.model_validate({"means": means, "std": 0.3, "resolution": 1})).double()
    z, t, scale = 0.3 * torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 350, 2.0
    loss = Diffusion(Diffusion.Config(guidance_scale=scale, weighting="one", **at(t)))
    found = loss.residual(z, ask(z, model, seed=4))
    noise = loss.query(z, ask(z, model, seed=4)).noise
    alpha, sigma = coefficients(model, t)
    times = torch.full((2,), t)
    y, n = model.encode_text(["y"] * 2), model.encode_text(["n"] * 2)

    def objective(clean):
        z_t = alpha * clean + sigma * noise
        guided = model.predict(z_t, times, n) + scale * (model.predict(z_t, times, y) - model.predict(z_t, times, n))
        return (guided - noise).square().sum()

    step = 1e-6
    for index in range(z.numel()):
        up, down = z.clone(), z.clone()
        up.reshape(-1)[index] += step
        down.reshape(-1)[index] -= step
        slope = (objective(up) - objective(down)) / (2 * step)
        assert found.flatten()[index].item() == pytest.approx(slope.item(), rel=1e-6)


def test_no_graph_is_left_behind():
    model, z = prior(), views(2).clone().requires_grad_()
    loss = Diffusion(Diffusion.Config())
    value = loss(ask(z, model))
    assert not loss.residual(z.detach(), ask(z.detach(), model)).requires_grad
    value.backward()
    assert z.grad is not None
