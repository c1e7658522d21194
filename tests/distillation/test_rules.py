"""Guidance rules by hand and by their papers' formulas: classifier-free guidance, Perp-Neg."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_prior import ask, at, guided_mu, mu, prior, pull, views

from dfw import Conditioning, PromptBatch
from dfw.distillation.rules import guided, perpendicular, predict_each, towards
from dfw_losses.csd import CSD
from dfw_losses.nfsd import NFSD


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_perpendicular_part_by_hand():
    delta, to = torch.tensor([[3.0, 4.0], [1.0, 1.0], [2.0, 5.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(perpendicular(delta, to), torch.tensor([[0.0, 4.0], [0.0, 0.0], [2.0, 5.0]]))


def negatives(model, count, weights):
    """The prompt "y" against "n", with Perp-Neg away from "bad" and "good"."""
    away = tuple(model.encode_text([text] * count) for text in ("bad", "good"))
    return PromptBatch(model.encode_text(["y"] * count), model.encode_text(["n"] * count), away, torch.tensor(weights).double())


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_perp_neg_by_the_papers_formula_in_one_network_call(scale, monkeypatch):
    model, t = prior(), torch.tensor([300, 700])
    z = torch.randn(2, 3, 2, 2, generator=generator(1), dtype=torch.float64)
    weights = [[0.5, 0.0], [1.5, 2.0]]
    base, y, bad, good = (model.predict(z, t, model.encode_text([text] * 2)) for text in ("n", "y", "bad", "good"))
    expected = torch.empty_like(z)
    for b in range(2):
        p = (y - base)[b].flatten()
        push = torch.zeros_like(p)
        for weight, other in zip(weights[b], (bad, good), strict=True):
            d = (other - base)[b].flatten()
            push += weight * (d - (d @ p) / (p @ p) * p)
        expected[b] = base[b] + scale * (p - push).view(3, 2, 2)
    calls = []
    inner = model.predict
    monkeypatch.setattr(model, "predict", lambda *given: (calls.append(len(given[0])), inner(*given))[1])
    torch.testing.assert_close(guided(model, z, t, negatives(model, 2, weights), scale), expected)
    assert calls == [8]


def test_perp_neg_without_weight_is_classifier_free_guidance():
    """The off-by-one between the two branches that others have: here the same number."""
    model, t, z = prior(), torch.tensor([300, 700]), torch.randn(2, 3, 2, 2, generator=generator(1), dtype=torch.float64)
    plain = PromptBatch(model.encode_text(["y"] * 2), model.encode_text(["n"] * 2))
    for scale in (0.0, 1.0, 7.5):
        torch.testing.assert_close(
            guided(model, z, t, negatives(model, 2, [[0.0, 0.0]] * 2), scale), guided(model, z, t, plain, scale)
        )


def test_perp_neg_reaches_the_losses_that_build_their_own_direction():
    """CSD and NFSD: the prompt's direction from no prompt, less what is perpendicular to it."""
    model, z, t = prior(), views(2), 400
    batch = negatives(model, 2, [[0.5, 1.0]] * 2)
    none = model.encode_text(["none"] * 2)
    for loss, texts in (
        (CSD(CSD.Config(weighting="one", **at(t))), {"": none}),
        (NFSD(NFSD.Config(weighting="one", guidance_scale=1, negative_prompt="ugly", **at(t))), {"": none, "ugly": none}),
    ):
        prompt = PromptBatch(batch.positive, batch.negative, batch.negatives, batch.negative_weights, texts)
        found = loss.residual(z, replace(ask(z, model), prompt=prompt))
        c = pull(model, t)
        base = -c * mu("none").expand(1, 3, 2, 2)
        expected = towards(base, -c * mu("y").expand_as(base), [-c * mu("bad").expand_as(base), -c * mu("good").expand_as(base)],
                           torch.tensor([[0.5, 1.0]]))  # fmt: skip
        torch.testing.assert_close(found, expected.expand_as(z))


def test_the_scale_is_diffusers_one_is_no_guidance():
    """E residual pulls to mu_n + s (mu_y - mu_n): to the prompt at 1, to the negative prompt at 0, beyond the prompt above 1."""
    model, t = prior(), 500
    for scale in (0.0, 1.0, 2.0):
        eps = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
        z_t = model.add_noise(views(), eps, torch.tensor([t]))
        prompt = PromptBatch(model.encode_text(["y"]), model.encode_text(["n"]))
        expected = pull(model, t) * (views() - guided_mu(scale))
        torch.testing.assert_close(guided(model, z_t, torch.tensor([t]), prompt, scale), expected)


def test_conditioning_keeps_its_order_for_each_text():
    """(negative, prompt, ...) in, the same order out."""
    model, t, z = prior(), torch.tensor([200]), views()
    texts: list[Conditioning] = [model.encode_text([text]) for text in ("n", "y", "bad")]
    for found, text in zip(predict_each(model, z, t, texts), ("n", "y", "bad"), strict=True):
        torch.testing.assert_close(found, model.predict(z, t, model.encode_text([text])))
