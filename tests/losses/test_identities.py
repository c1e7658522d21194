"""What the members of the family are to each other: the identities that hold for any of them, on the prior known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import known_prior
import pytest
import torch
from known_prior import COUNT, FLOW, STD, agree, ask, at, coefficients, draw, guided_mu, mu, prior, pull, views
from torch import Tensor

from dfw import Progress
from dfw.distillation.base import Distillation
from dfw.distillation.inversion import invert
from dfw.plugins.registry import registry
from dfw_losses.asd import ASD
from dfw_losses.bridge import Bridge
from dfw_losses.bsd import BSD
from dfw_losses.csd import CSD
from dfw_losses.diffusion import Diffusion
from dfw_losses.hifa import HiFA
from dfw_losses.ism import ISM
from dfw_losses.nfsd import NFSD, UGLY
from dfw_losses.rfds import RFDS
from dfw_losses.rfds_rev import RFDSRev
from dfw_losses.score import Score
from dfw_losses.sctd import SCTD
from dfw_losses.sdi import SDI
from dfw_losses.sds import SDS
from dfw_losses.sjc import SJC

TEXTS = {"": "none", UGLY: "bad"}
FAMILY: tuple[type[Distillation], ...] = (
    SDS,
    Score,
    Diffusion,
    SJC,
    CSD,
    NFSD,
    ISM,
    SDI,
    ASD,
    Bridge,
    HiFA,
    BSD,
    SCTD,
    RFDS,
    RFDSRev,
)
OPTIONS = {Bridge: {"good": "{prompt}, a", "bad": "{prompt}, b", "switch": 0.0}, HiFA: {"image_weight": 0}}


def make(kind: type[Distillation], **options: object) -> tuple[Distillation, Mapping[str, str]]:
    """A loss of the family, and the texts it asks for."""
    loss = kind(kind.Config.model_validate(OPTIONS.get(kind, {}) | options))
    known = TEXTS | {"{prompt}, a": "good", "{prompt}, b": "bad"}
    return loss, {text: known[text] for text in loss.texts()}


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize("t", [20, 200, 500, 900])
def test_1_the_mean_of_sds_is_the_closed_form(t, schedule):
    """w alpha sigma (x - mu) / (alpha^2 s^2 + sigma^2), and the guidance's own closed form says the same."""
    model = prior(schedule=schedule)
    alpha, sigma = coefficients(model, t)
    expected = sigma**2 * alpha * sigma * (views() - mu("y")) / (alpha**2 * STD**2 + sigma**2)
    agree(draw(SDS(SDS.Config(guidance_scale=1, **at(t))), model), expected, power=10)
    exact = model.mean_residual(views(), torch.tensor([t]), model.encode_text(["y"]))
    torch.testing.assert_close(sigma**2 * exact, expected)


def test_2_sjc_with_variance_reduction_is_sds_of_weight_one():
    model, z = prior(), views(20)
    sds = SDS(SDS.Config(weighting="one")).residual(z, ask(z, model, seed=3))
    torch.testing.assert_close(SJC(SJC.Config(guidance_scale=100)).residual(z, ask(z, model, seed=3)), sds)


def test_3_sdi_is_sigma_over_alpha_times_prediction_minus_inverted_noise():
    model, z = prior(), views(6)
    loss = SDI(SDI.Config(inversion_steps=5))
    query = loss.query(z, ask(z, model))
    noisy = invert(model, z, query.timestep, 5, lambda at_z, t: query.guided(-7.5, at_z, t))
    alpha, sigma = model.schedule.at(query.timestep, z)
    inverted = (noisy - alpha * z) / sigma
    expected = sigma / alpha * (query.guided(7.5, noisy) - inverted)
    torch.testing.assert_close(loss.residual(z, ask(z, model)), expected)
    torch.testing.assert_close(expected, z - model.predict_clean(noisy, query.timestep, query.guided(7.5, noisy)))


def test_5_csd_is_the_limit_of_sds_over_its_scale():
    model, z = prior(), views(5)
    csd = CSD(CSD.Config()).residual(z, ask(z, model, {"": "n"}))
    sds = SDS(SDS.Config(guidance_scale=1e7)).residual(z, ask(z, model)) / 1e7
    torch.testing.assert_close(sds, csd, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("t", [100, 500])
def test_6_the_score_has_the_mean_of_sds_and_more_variance_near_convergence(t):
    """At x = mu: eps_hat - eps = -(alpha^2 s^2 / v) eps, and eps_hat = (sigma^2 / v) eps."""
    model = prior()
    alpha, sigma = coefficients(model, t)
    z = mu("y").expand(COUNT, 3, 2, 2)
    both = [
        kind(kind.Config(guidance_scale=1, weighting="one", **at(t))).residual(z, ask(z, model, seed=seed))
        for seed, kind in enumerate((SDS, Score))
    ]
    v = alpha**2 * STD**2 + sigma**2
    for found, expected in zip(both, ((alpha**2 * STD**2 / v) ** 2, (sigma**2 / v) ** 2), strict=True):
        assert found.var().item() == pytest.approx(expected, rel=5 * (2 / found.numel()) ** 0.5)
    if sigma > alpha * STD:
        assert both[0].var() < both[1].var()
    error = ((both[0].var(0) + both[1].var(0)) / COUNT).sqrt()
    assert ((both[0].mean(0) - both[1].mean(0)) / error).abs().max() < 5


def test_6_away_from_convergence_too_the_means_are_equal():
    model = prior()
    sds, score = (draw(kind(kind.Config(guidance_scale=5, **at(300))), model) for kind in (SDS, Score))
    error = (sds.error**2 + score.error**2).sqrt()
    assert ((sds.mean - score.mean) / error).abs().max() < 5
    assert (sds.mean / error).abs().max() > 20


def test_7_the_diffusion_loss_is_autograd_through_the_closed_form_and_sds_lacks_the_jacobian():
    model, z, t = prior(), views(8), 450
    alpha, sigma = coefficients(model, t)
    full = Diffusion(Diffusion.Config(guidance_scale=4, **at(t)))
    noise = full.query(z, ask(z, model)).noise
    clean = z.clone().requires_grad_()
    predicted = sigma * (alpha * clean + sigma * noise - alpha * guided_mu(4)) / (alpha**2 * STD**2 + sigma**2)
    (predicted - noise).square().sum().backward()
    found = full.residual(z, ask(z, model))
    torch.testing.assert_close(found, clean.grad)
    sds = SDS(SDS.Config(guidance_scale=4, weighting="one", **at(t))).residual(z, ask(z, model))
    torch.testing.assert_close(found / sds, torch.full_like(z, 2 * alpha * pull(model, t) / alpha))


@pytest.mark.parametrize("kind", FAMILY)
def test_8_the_gradient_of_a_view_is_its_residual_over_the_batch(kind):
    """One convention for all: elements summed, views averaged."""
    (loss, texts), model, z = make(kind), prior(), views(4).clone().requires_grad_()
    loss(ask(z, model, texts)).backward()
    torch.testing.assert_close(z.grad, loss.residual(z.detach(), ask(z.detach(), model, texts)) / 4)


@pytest.mark.parametrize("kind", FAMILY)
def test_8_neither_batch_nor_image_size_changes_a_pixels_mean_gradient(kind):
    """The share in BSD's mixture is one number for a whole view, so that the size of the view counts there."""
    (loss, texts), colour = make(kind, **at(400)), 0.2
    means = []
    for side, count in ((2 if kind is BSD else 1, 8_000), (2, 2_000), (2, 500)):
        z = torch.full((count, 3, side, side), colour, dtype=torch.float64)
        model = prior(side)
        drawn = z.clone().requires_grad_()
        loss(ask(drawn, model, texts, seed=side + count)).backward()
        per_view = drawn.grad * count
        means.append((drawn.grad.sum(0).mean((1, 2)), per_view.std((0, 2, 3)) / (count * side**2) ** 0.5))
    (first, error), *others = means
    for mean, other in others:
        spread = (error**2 + other**2).sqrt().clamp_min(1e-9)
        assert ((mean - first) / spread).abs().max() < 5
        assert (first / spread).abs().max() > 5


@pytest.mark.parametrize("schedule", [None, FLOW])
def test_9_pixels_under_sds_go_to_the_prompts_mean(schedule):
    """Plain descent from one image, 48 times: the mean ends within five standard errors of mu, the spread below the data's."""
    model = prior(schedule=schedule)
    z = views(48).clone()
    start = (z - mu("y")).abs().max()
    loss = SDS(SDS.Config(guidance_scale=1, weighting="one"))
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        inputs = replace(ask(z, model, progress=Progress(step, 150)), generator=generator)
        z = z - 0.2 * (1 - step / 150) * loss.residual(z, inputs)
    assert start > 1
    assert ((z.mean(0, keepdim=True) - mu("y")) / (z.std(0, keepdim=True) / 48**0.5)).abs().max() < 5
    assert z.std(0).max() < STD / 2  # mode seeking: far narrower than the data


def test_every_distillation_loss_of_the_package_is_in_the_family():
    """An objective that is added finds its place here."""
    built_in = [entry for entry in registry().entries() if entry.kind == "loss" and entry.distribution == "dreamfw"]
    kinds = {registry().load(entry) for entry in built_in}
    listed = {kind.__name__ for kind in FAMILY}
    apart = {
        "VSD",
        "Bootstrapped",
        "Img2Img",
        "MVDream",
    }  # two adapters, two distances from a clean estimate: tested by themselves
    assert {kind.__name__ for kind in kinds if issubclass(kind, Distillation)} - apart == listed


def test_the_closed_form_itself_is_the_mean_of_the_written_out_residual():
    """The reference the others lean on, by a grid of quantiles instead of draws: no Monte Carlo error."""
    model, t = prior(1), 350
    alpha, sigma = coefficients(model, t)
    probabilities = (torch.arange(20_001, dtype=torch.float64) + 0.5) / 20_001
    eps = torch.distributions.Normal(0.0, 1.0).icdf(probabilities).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    z = views(1, 1)
    text = model.encode_text(["y"] * len(eps))
    residual: Tensor = model.predict(alpha * z + sigma * eps, torch.full((len(eps),), t), text) - eps
    torch.testing.assert_close(residual.mean(0, keepdim=True), known_prior.pull(model, t) * (z - mu("y")), rtol=1e-9, atol=1e-9)
