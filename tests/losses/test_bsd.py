"""Balanced score distillation: its mixture is the shortest, and its mean is an integral over the noise done by quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_prior import FLOW, STD, agree, ask, at, coefficients, draw, mu, prior, views

from dfw_losses.bsd import BSD, shortest
from dfw_losses.csd import CSD

NONE = {"": "none"}


def by_quadrature(model, t, scale):
    """E [a g_c + (1 - a) g_0] for one pixel, over its three numbers of noise: Gauss-Hermite, 60 nodes each."""
    alpha, sigma = coefficients(model, t)
    z, none, y = (x.flatten().numpy() for x in (views(1, 1), mu("none"), mu("y")))
    variance = alpha**2 * STD**2 + sigma**2
    classifier = scale * sigma * alpha * (none - y) / variance
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    eps = np.stack(np.meshgrid(node, node, node, indexing="ij"), -1).reshape(-1, 3)
    share_of = np.einsum("i,j,k->ijk", weight, weight, weight).reshape(-1, 1) / (2 * np.pi) ** 1.5
    base = sigma * (alpha * (z - none) + sigma * eps) / variance
    apart = base - classifier
    a = np.clip((apart * base).sum(1, keepdims=True) / (apart**2).sum(1, keepdims=True), 0, 1)
    return torch.from_numpy((share_of * (a * classifier + (1 - a) * base)).sum(0)).view(1, 3, 1, 1)


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "scale"), [(100, 0.5), (400, 4), (800, 15)])
def test_its_mean_is_the_integral_over_the_noise(t, scale, schedule):
    model = prior(1, schedule)
    draws = draw(BSD(BSD.Config(guidance_scale=scale, weighting="one", **at(t))), model, NONE, count=40_000)
    agree(draws, by_quadrature(model, t, scale), power=8)


def test_its_weight_is_alpha_by_default():
    model, t = prior(), 300
    one, default = (draw(BSD(BSD.Config(**at(t), **w)), model, NONE, count=5).mean for w in ({"weighting": "one"}, {}))
    torch.testing.assert_close(default, coefficients(model, t)[0] * one)


@pytest.mark.parametrize("scale", [0.3, 2, 15])
def test_no_other_mixture_is_shorter_and_it_works_against_neither_part(scale):
    """Each view for itself: against 1,001 mixtures, and by the angle with both parts."""
    model, z = prior(), views(40)
    loss = BSD(BSD.Config(guidance_scale=scale, weighting="one"))
    query = loss.query(z, ask(z, model, NONE))
    base, y = (model.predict(query.noisy, query.timestep, model.encode_text([text] * 40)) for text in ("none", "y"))
    classifier = scale * (y - base)
    found = loss.residual(z, ask(z, model, NONE)).flatten(1)
    share = torch.linspace(0, 1, 1001, dtype=torch.float64).view(-1, 1, 1)
    mixtures = share * classifier.flatten(1) + (1 - share) * base.flatten(1)
    assert (found.norm(dim=1) <= mixtures.norm(dim=2).min(0).values + 1e-12).all()
    assert (found - mixtures).norm(dim=2).min(0).values.max() < 1e-3 * mixtures.norm(dim=2).max()
    for part in (base, classifier):
        assert ((found * part.flatten(1)).sum(1) >= found.square().sum(1) - 1e-9).all()


def test_where_both_parts_agree_and_the_prompts_is_the_shorter_it_is_csd():
    """An image on the far side of "no prompt", seen from the prompt: g_0 points where g_c does, and is far longer."""
    model, options = prior(), {"weighting": "one", **at(200)}
    z = (mu("none") + 5 * (mu("none") - mu("y"))).expand(20, 3, 2, 2)
    csd = CSD(CSD.Config(**options)).residual(z, ask(z, model, NONE))
    torch.testing.assert_close(BSD(BSD.Config(guidance_scale=0.1, **options)).residual(z, ask(z, model, NONE)), 0.1 * csd)


def test_two_equal_parts_are_their_own_mixture():
    part = views(3)
    assert torch.equal(shortest(part, part), part)
    assert torch.equal(shortest(0 * part, part), 0 * part)
