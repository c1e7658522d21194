"""The pieces that all distillation losses share: timesteps, guidance rules, clipping, DDIM inversion."""

from __future__ import annotations

import math

import pytest
import torch
from known_prior import FLOW, ask, at, guided_mu, mu, prior, pull, views

from dfw import Conditioning, ConfigError, LossInputs, Progress, PromptBatch, Ramp
from dfw.distillation.clipping import clip_gradient
from dfw.distillation.rules import guided, perpendicular, towards
from dfw.distillation.timesteps import choose_timesteps, dreamtime_timestep, dreamtime_weights, stratified_timesteps
from dfw_losses.csd import CSD
from dfw_losses.hifa import HiFA
from dfw_losses.nfsd import NFSD
from dfw_losses.sds import SDS

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# timesteps


def test_stratified_views_take_one_part_each_in_random_order():
    drawn = [stratified_timesteps(4, 100, 499, generator(seed), CPU) for seed in range(400)]
    table = torch.stack(drawn)
    assert ((table - 100) // 100).sort(1).values.eq(torch.arange(4)).all()
    assert not ((table - 100) // 100).eq(torch.arange(4)).all()
    share = torch.bincount(table[:, 0] - 100, minlength=400).double().view(4, 100).sum(1) / 400
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 400)  # each view's own t is uniform


def test_stratified_single_view_is_uniform_and_includes_both_ends():
    drawn = torch.cat([stratified_timesteps(1, 3, 6, generator(seed), CPU) for seed in range(400)])
    assert drawn.unique().tolist() == [3, 4, 5, 6]


def test_a_ramp_is_the_timestep_itself():
    how = Ramp.model_validate({"from": 0.98, "to": 0.2, "ease": "sqrt"})
    schedule = prior().schedule
    found = [choose_timesteps(how, 20, 980, 3, schedule, Progress(step, 400), generator()).tolist() for step in (0, 100, 399)]
    assert found == [[980] * 3, [round(980 - 780 * 0.5)] * 3, [round(980 - 780 * math.sqrt(399 / 400))] * 3]


def test_dreamtimes_table_by_an_independent_sum():
    """W(t) and t(i) from the paper's formula, in a plain loop."""
    schedule, low, high = prior().schedule, 20, 980

    def weight(t):
        prior_part = 1.0
        if t > 800:
            prior_part = math.exp(-((t - 800) ** 2) / (2 * 300**2))
        if t < 500:
            prior_part = math.exp(-((t - 500) ** 2) / (2 * 100**2))
        return prior_part * float(schedule.sigma[t].double() / schedule.alpha[t].double())

    total = sum(weight(t) for t in range(low, high + 1))
    torch.testing.assert_close(
        dreamtime_weights(schedule, low, high),
        torch.tensor([weight(t) / total for t in range(low, high + 1)], dtype=torch.float64),
        rtol=1e-9,
        atol=1e-12,
    )
    for step in (0, 70, 150, 199):
        distance = {}
        upper = 0.0
        for t in range(high, low - 1, -1):
            upper += weight(t) / total
            distance[t] = abs(upper - step / 200)
        assert dreamtime_timestep(schedule, low, high, Progress(step, 200)).item() == min(distance, key=distance.get)


def test_dreamtime_never_rises_and_stays_in_its_range():
    schedule = prior().schedule
    found = [dreamtime_timestep(schedule, 20, 980, Progress(step, 300)).item() for step in range(300)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 980
    assert 20 <= found[-1] < 500


def test_timesteps_in_a_configuration():
    assert SDS.Config.model_validate({"timesteps": "dreamtime"}).timesteps == "dreamtime"
    with pytest.raises(ValueError, match=r"timesteps: 1.2 must lie in \[0, 1\]"):
        SDS.Config.model_validate({"timesteps": {"from": 1.2, "to": 0.1}})
    with pytest.raises(ValueError, match="uniform"):
        SDS.Config.model_validate({"timesteps": "unifrom"})


@pytest.mark.parametrize("how", ["stratified", "dreamtime", {"from": 0.5, "to": 0.1}])
def test_each_loss_takes_each_way(how):
    model, z = prior(), views(4)
    texts = {"": "none"}
    found = CSD(CSD.Config.model_validate({"timesteps": how})).residual(z, ask(z, model, texts))
    assert torch.isfinite(found).all()


# guidance rules


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


def with_prompt(inputs, prompt):
    return LossInputs(inputs.render, inputs.cameras, prompt, inputs.guidance, inputs.progress, inputs.generator)


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
        found = loss.residual(z, with_prompt(ask(z, model), prompt))
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


# clipping


def test_clipping_by_hand():
    gradient = torch.tensor([[3.0, -4.0], [0.3, 0.4]]).view(2, 2, 1, 1)
    element = clip_gradient(gradient, 1.0, "element").flatten(1)
    torch.testing.assert_close(element, torch.tensor([[1.0, -1.0], [0.3, 0.4]]))
    torch.testing.assert_close(clip_gradient(gradient, 1.0, "pixel").flatten(1), torch.tensor([[0.6, -0.8], [0.3, 0.4]]))
    root = math.sqrt(12.5)
    torch.testing.assert_close(clip_gradient(gradient, 1.0, "view").flatten(1), torch.tensor([[3 / root, -4 / root], [0.3, 0.4]]))
    zero = torch.zeros(1, 3, 2, 2)
    for by in ("element", "pixel", "view"):
        assert torch.equal(clip_gradient(zero, 0.5, by), zero)
        assert clip_gradient(torch.full((1, 3, 1, 1), torch.nan), 0.5, by).isnan().all()


def test_a_loss_clips_its_weighted_gradient_on_schedule():
    model, z = prior(), views(20)
    clip = {"limit": {"from": 0.05, "to": 0.2}}
    free = SDS(SDS.Config(**at(400))).residual(z, ask(z, model))
    for step, limit in ((0, 0.05), (50, 0.125), (99, 0.1985)):
        bound = SDS(SDS.Config.model_validate({"clip": clip, **at(400)})).residual(z, ask(z, model, progress=Progress(step, 100)))
        torch.testing.assert_close(bound, free.clamp(-limit, limit))
    with pytest.raises(ValueError, match=r"must be above 0; D-SDS raises it from 0\.5 to 2"):
        SDS.Config.model_validate({"clip": {"limit": 0}})


# the base


def test_a_run_without_guidance_names_the_loss():
    import loss_inputs

    with pytest.raises(ConfigError, match="the loss 'hifa' asks a guidance"):
        HiFA(HiFA.Config()).residual(torch.zeros(1, 3, 2, 2), loss_inputs.of_opacity(torch.ones(1, 2, 2)))


def test_a_schedule_that_does_not_preserve_variance_adds_its_own_noise():
    model, z = prior(schedule=FLOW), views(3)
    query = SDS(SDS.Config(**at(500))).query(z, ask(z, model))
    torch.testing.assert_close(query.noisy, FLOW.alpha[500].double() * z + FLOW.sigma[500].double() * query.noise)


def test_conditioning_keeps_its_order_for_each_text():
    """(negative, prompt, ...) in, the same order out."""
    model, t, z = prior(), torch.tensor([200]), views()
    from dfw.distillation.rules import predict_each

    texts: list[Conditioning] = [model.encode_text([text]) for text in ("n", "y", "bad")]
    for found, text in zip(predict_each(model, z, t, texts), ("n", "y", "bad"), strict=True):
        torch.testing.assert_close(found, model.predict(z, t, model.encode_text([text])))
