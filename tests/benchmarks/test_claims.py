"""What docs/claims.md measures: each figure of its script against a closed form, or an inequality with its error bound."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dfw import Guidance
from dfw.prior.sample import ddim_timesteps

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from claims_figures import (
    SKY,
    STD,
    crossing,
    embedded,
    entropy_terms,
    jacobian_cost,
    jacobian_gain,
    kl_gradient,
    kl_identity,
    kl_prior,
    saved_bytes,
    sky,
    spread,
)
from claims_pictures import LABEL, TILE, look, optimised, sampled, sheet

BETA = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ABAR = (1 - BETA).cumprod(0)
GREY = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
PLANE = ["geometry.width=4", "geometry.height=4", "cameras.width=4", "guidance.resolution=4", "guidance.std=0.2"]


def coefficients(t: int) -> tuple[float, float, float]:
    """alpha, sigma and v = alpha^2 s^2 + sigma^2, from DDPM's betas."""
    alpha, sigma = math.sqrt(ABAR[t]), math.sqrt(1 - ABAR[t])
    return alpha, sigma, alpha**2 * STD**2 + sigma**2


@pytest.fixture(scope="module")
def prior() -> Guidance:
    return embedded()


def test_bytes_kept_count_a_storage_once_and_no_weights():
    """exp keeps its result; the product keeps the same storage again, and a weight of the model's."""
    layer = nn.Linear(100, 1, bias=False).double()
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)

    def action() -> Tensor:
        return (x.exp() * layer.weight[0]).sum()

    assert saved_bytes(action, layer) == 800
    assert saved_bytes(action, nn.Module()) == 1600
    with torch.no_grad():
        assert saved_bytes(action, layer) == 0


def test_1_sds_keeps_nothing_of_the_network_and_the_full_gradient_does(prior):
    costs = jacobian_cost(prior, "a red mushroom", views=1, repeats=1)
    assert costs["latents"]["sds"].saved == 0
    assert costs["latents"]["diffusion"].saved > 2**20
    assert costs["pixels"]["diffusion"].saved > costs["pixels"]["sds"].saved > 0  # the encoder's graph is in both


def test_1_the_jacobian_of_gaussian_data_is_a_number():
    """2 alpha J^T r = (2 alpha sigma / v) r, parallel to r."""
    for found in jacobian_gain(sky(), SKY, GREY, [20, 200, 900], 4):
        alpha, sigma, v = coefficients(found.timestep)
        assert found.gain == pytest.approx(2 * alpha * sigma / v, rel=1e-5)
        assert found.cosine == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("t", [20, 200, 600])
def test_2_equal_means_and_the_variances_of_the_closed_form(t):
    count, (alpha, sigma, v) = 4_000, coefficients(t)
    found = spread(sky(), GREY, SKY, 1.0, t, count)
    bound = 5 * (2 / (count * GREY.numel())) ** 0.5
    assert found.off < 5
    assert found.sds == pytest.approx((alpha**2 * STD**2 / v) ** 2, rel=bound)
    assert found.score == pytest.approx((sigma**2 / v) ** 2, rel=bound)
    assert (found.exact_sds, found.exact_score) == pytest.approx(((alpha**2 * STD**2 / v) ** 2, (sigma**2 / v) ** 2), rel=1e-5)


def test_2_the_variance_is_lower_from_the_crossing_on():
    """sigma > alpha s; one step earlier it is higher."""
    model, t = sky(), crossing(sky())
    ratio = (1 - ABAR).sqrt() / ABAR.sqrt()
    assert ratio[t - 1] <= STD < ratio[t]
    before, after = (spread(model, GREY, SKY, 1.0, at, 4_000) for at in (t - 20, t + 20))
    assert before.sds > 1.5 * before.score
    assert 1.5 * after.sds < after.score


def test_2_the_shipped_priors_sds_varies_less_when_noise_is_strong(prior):
    """16 draws of 1,024 numbers: a variance is known to 1 %."""
    found = spread(prior, torch.full((1, 3, 64, 64), 0.5), "a red mushroom", 1.0, 600, 16)
    assert found.exact_sds is None
    assert found.sds < 0.5 * found.score


@pytest.mark.parametrize("t", [20, 300, 900])
def test_3_the_gradient_of_the_divergence_by_linear_algebra(t):
    """alpha^2 (alpha^2 S + sigma^2 I)^-1 (x - mu)."""
    data = torch.tensor([[0.01, 0, 0], [0, 0.04, 0.03], [0, 0.03, 0.04]], dtype=torch.float64)
    mu = 2 * torch.tensor([0.4, 0.6, 0.9], dtype=torch.float64) - 1
    x = torch.tensor([0.3, -0.8, 0.1], dtype=torch.float64)
    alpha2, sigma2 = ABAR[t], 1 - ABAR[t]
    expected = alpha2 * torch.linalg.solve(alpha2 * data + sigma2 * torch.eye(3, dtype=torch.float64), x - mu)
    torch.testing.assert_close(kl_gradient(kl_prior(), x, t), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("t", [100, 500])
def test_3_the_mean_of_sds_is_the_weighted_gradient_of_the_divergence(t):
    found = kl_identity(kl_prior(), (0.8, 0.2, 0.5), t, 20_000)
    assert found.off < 5
    assert found.kl_gradient > 100 * found.error  # a wrong weight would have shown


def test_3_the_entropy_has_two_terms_and_no_gradient():
    eps = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path, own = entropy_terms(0.8, 0.6, torch.full_like(eps, 0.3), eps)
    torch.testing.assert_close(path, -0.8 / 0.6 * eps)
    torch.testing.assert_close(own, 0.8 / 0.6 * eps)


def test_4_figures_of_known_pictures():
    grey = look(torch.stack([torch.full((3, 2, 2), level) for level in (0.2, 0.6)]))
    assert (grey.spread, grey.chroma, grey.clipped) == pytest.approx((0.4 / 2**0.5, 0, 0), abs=1e-6)
    red = look(torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 2, 2))
    assert (red.spread, red.chroma, red.clipped) == pytest.approx((0, 1, 2 / 3))


def test_4_sampling_finds_the_data_and_optimising_its_mode():
    """Data of deviation 0.2 / 2 in [0, 1]: DDIM's pictures spread nearly as widely, optimised ones far less, all around the mean.

    DDIM is linear here: one step multiplies z - alpha mu by (alpha' alpha s^2 + sigma' sigma) / v; the last has alpha' = 1.
    """
    options = ['guidance.means={"a sea": [0.4, 0.5, 0.6]}', "prompt=a sea", *PLANE]
    mean = torch.tensor([0.4, 0.5, 0.6])
    drawn = sampled("gaussian-2d", options, 64, 1.0, steps=100)
    places = [coefficients(t) for t in ddim_timesteps(1000, 100)] + [(1.0, 0.0, STD**2)]
    shrunk = math.prod((b[0] * a[0] * STD**2 + b[1] * a[1]) / a[2] for a, b in pairwise(places))
    assert 0.9 * STD < shrunk < STD
    assert look(drawn).spread == pytest.approx(shrunk / 2, rel=5 * (2 * 63 * 48) ** -0.5)
    torch.testing.assert_close(drawn.mean((0, 2, 3)), mean, rtol=0, atol=5 * 0.1 / (64 * 16) ** 0.5)
    sought = optimised("gaussian-2d", [*options, "geometry.count=8", "cameras.batch_size=8", "trainer.steps=120"], 8)
    assert look(sought).spread < look(drawn).spread / 2
    torch.testing.assert_close(sought.mean((0, 2, 3)), mean, rtol=0, atol=0.02)


@pytest.mark.parametrize(("scale", "chroma", "clipped"), [(2, 0.3, 0), (8, 0.5, 1 / 3)])
def test_4_the_guidance_scale_pushes_the_mode_out_and_saturates(scale, chroma, clipped):
    """The point that SDS descends to is mu_n + s (mu_y - mu_n): red 0.4 + 0.2 s, clipped at 1, beside 0.5."""
    options = ['guidance.means={"y": [0.6, 0.5, 0.5], "n": [0.4, 0.5, 0.5]}', "prompt=y", "negative_prompt=n", *PLANE]
    options += [f"losses.sds.guidance_scale={scale}", "geometry.count=8", "cameras.batch_size=8", "trainer.steps=80"]
    found = optimised("gaussian-2d", options, 8).mean((0, 2, 3), keepdim=True)
    figures = look(found.expand(2, 3, 1, 1))
    assert figures.chroma == pytest.approx(chroma, abs=0.04)
    assert figures.clipped == pytest.approx(clipped)


def test_4_a_sheet_has_each_picture_at_its_place():
    """Rows under one another, groups beside one another behind the label."""
    level = {name: torch.full((2, 3, 8, 8), value) for name, value in (("a", 0.0), ("c", 0.6), ("d", 0.2))}
    picture = sheet({"first": [level["a"], level["c"]], "second": [level["d"], level["a"]]})
    middles = [LABEL + TILE // 2, LABEL + 3 * TILE // 2, LABEL + 5 * TILE // 2 + 16, LABEL + 7 * TILE // 2 + 18]
    assert [picture.getpixel((x, TILE // 2))[0] for x in middles] == [0, 0, 153, 153]
    assert [picture.getpixel((x, 3 * TILE // 2))[0] for x in middles] == [51, 51, 0, 0]
