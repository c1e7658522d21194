"""Bootstrapped score distillation on the prior known exactly: what it pulls to, when the scene waits, and what psi learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from known_prior import FLOW, agree, ask, at, coefficients, draw, guided_mu, mu, prior, pull, views
from torch import Tensor
from vsd_parts import adapter_of, seeded

from dfw import Guidance, LossSetup, Progress
from dfw_losses.bootstrapped import Bootstrapped

LESSON, WORK = Progress(12, 100), Progress(13, 100)
"""Steps of a cycle of ten, three of which are lessons."""
PSI, PHI = (torch.tensor(one, dtype=torch.float64).view(1, 3, 1, 1) for one in ([0.3, -0.2, 0.1], [-0.1, 0.4, 0.2]))


def bound(guidance: Guidance, **options: object) -> Bootstrapped:
    loss = Bootstrapped(Bootstrapped.Config.model_validate({"cycle": 10, "share": 0.3, **options}))
    loss.bind(LossSetup(guidance, None, None, seeded()))
    return loss


def taught(loss: Bootstrapped) -> Any:
    """psi's Gaussians."""
    assert loss.prior is not None
    return loss.prior


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize("t", [100, 900])
def test_its_mean_is_the_closed_form(t: int, schedule: Any) -> None:
    """c (z - mu_psi) - c (z - mu_phi): psi guided from the negative prompt to where "y" has been moved."""
    model = prior(schedule=schedule)
    loss = bound(model, guidance_scale=3, weighting="one", **at(t))
    with torch.no_grad():
        taught(loss).means[model.texts.index("y")] += PSI[0]
        adapter_of(loss).means[model.texts.index("y")] += PHI[0]
    expected = pull(model, t) * (mu("y") + PHI - guided_mu(3) - 3 * PSI)
    agree(draw(loss, model, progress=WORK), expected.expand_as(views()), power=5)


def test_the_scene_waits_in_lessons_and_phi_learns_outside_of_them() -> None:
    model, z = prior(), views(4)
    for progress, learner, other in ((LESSON, "prior", "adapter"), (WORK, "adapter", "prior")):
        loss = bound(model, adapter_lr=0.1, prior_lr=0.1, guidance_scale=3)
        before = {name: [one.clone() for one in getattr(loss, name).parameters()] for name in (learner, other)}
        leaf = ((z + 1) / 2).requires_grad_()
        inputs = ask(2 * leaf - 1, model, progress=progress)
        loss(inputs).backward()
        assert leaf.grad is not None
        assert bool(leaf.grad.any()) == (progress is WORK)
        loss.end_step(inputs)
        moved = {
            name: any(not torch.equal(*pair) for pair in zip(old, getattr(loss, name).parameters(), strict=True))
            for name, old in before.items()
        }
        assert moved == {learner: True, other: False}


def test_it_repaints_from_the_largest_noise_as_ddim_does() -> None:
    """With one call from t_max: z0 - mu = alpha s^2 / v times (z_t - alpha mu), mu the guided mean."""
    model, z = prior(), views(3)
    loss = bound(model, t_max=0.6, repaint_steps=1, repaint_scale=4)
    found = loss.repainted(ask(z, model, seed=5), model)
    noise = loss.query(z, ask(z, model, seed=5)).noise
    alpha, sigma = coefficients(model, 600)
    away = alpha * (z - guided_mu(4)) + sigma * noise
    torch.testing.assert_close(found, guided_mu(4) + alpha * 0.3**2 / (alpha**2 * 0.3**2 + sigma**2) * away, rtol=1e-4, atol=1e-5)


def test_psi_learns_where_the_repainted_views_are() -> None:
    """Guidance moves the repainted views off the prior's mean of "y". psi starts there, and ends nearer to the views."""
    model, z = prior(), views(16)
    loss = bound(model, prior_lr=0.05, repaint_scale=3, repaint_steps=5)
    inputs = ask(z, model, progress=LESSON)
    goal = loss.repainted(replace(inputs, generator=seeded(9)), model).mean((0, 2, 3))
    row = model.texts.index("y")

    def apart() -> float:
        means: Tensor = taught(loss).means[row]
        return float((means.detach().mean((1, 2)) - goal).norm())

    before = apart()
    for _ in range(80):
        loss.end_step(inputs)
    assert before > 0.3
    assert apart() < before / 3


def test_its_options_have_ends_and_its_optimisers_names() -> None:
    loss = bound(prior())
    assert set(loss.optimizers()) == {"adapter", "prior"}
    for wrong in ({"share": 0}, {"share": 1}, {"cycle": 0}, {"repaint_steps": 0}, {"prior_lr": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Bootstrapped.Config.model_validate(wrong)
