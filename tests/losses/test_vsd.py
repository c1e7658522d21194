"""Variational score distillation on the prior known exactly: its identities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_prior import FLOW, STD, agree, ask, at, coefficients, draw, guided_mu, mu, prior, pull, views
from small_runs import PIXELS, config, trained
from torch import Tensor
from vsd_parts import adapter_of, bound, seeded

from dfw import Adapter, Conditioning, Guidance, LossInputs, LossSetup, RenderOutput, Views
from dfw.interfaces.component import take_numbers
from dfw_losses.sds import SDS
from dfw_losses.vsd import VSD


class Omniscient(Adapter):
    """An adapter that says which noise was drawn, knowing the views."""

    def __init__(self, clean: Tensor, model: Guidance) -> None:
        super().__init__()
        self.answer = lambda noisy, alpha, sigma: (noisy - alpha * clean) / sigma
        self.schedule = model.schedule

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        found: Tensor = self.answer(noisy, *self.schedule.at(timestep, noisy))
        return found


@pytest.mark.parametrize("schedule", [None, FLOW])
def test_4_with_the_noise_for_the_adapters_output_it_is_sds(schedule):
    model, z = prior(schedule=schedule), views(20)
    loss = bound(model, guidance_scale=40)
    other = loss.residual(z, ask(z, model, seed=3))
    loss.adapter = Omniscient(z, model)
    sds = SDS(SDS.Config(guidance_scale=40)).residual(z, ask(z, model, seed=3))
    torch.testing.assert_close(loss.residual(z, ask(z, model, seed=3)), sds)
    assert (other - sds).abs().max() > 0.1


@pytest.mark.parametrize("t", [100, 500, 900])
def test_its_mean_with_a_trained_adapter_is_the_closed_form(t):
    """c (z - mu) - c_phi (z - m), c = sigma alpha / (alpha^2 s^2 + sigma^2) and c_phi with the adapter's own spread."""
    model = prior()
    loss = bound(model, guidance_scale=1, weighting="one", **at(t))
    moved, spread = torch.tensor([0.3, -0.2, 0.1]).double().view(1, 3, 1, 1), 0.7
    with torch.no_grad():
        adapter_of(loss).means[0] += moved[0]
        adapter_of(loss).log_std[0] = torch.tensor(spread).log()
    alpha, sigma = float(model.schedule.alpha[t].double()), float(model.schedule.sigma[t].double())
    theirs = sigma * alpha / (alpha**2 * spread**2 + sigma**2)
    expected = pull(model, t) * (views() - mu("y")) - theirs * (views() - mu("y") - moved)
    agree(draw(loss, model), expected, power=5)


def esd(model, share, **options):
    """A bound loss of both predictions, its adapter's Gaussians moved off the model's: "y" by one step, "none" by another."""
    loss = bound(model, guidance_scale=2, camera_free=share, **options)
    with torch.no_grad():
        adapter_of(loss).means[model.texts.index("y")] += MOVED["y"][0]
        adapter_of(loss).means[model.texts.index("none")] += MOVED["none"][0]
        adapter_of(loss).log_std.fill_(torch.tensor(SPREAD).log())
    return loss


MOVED = {
    "y": torch.tensor([0.3, -0.2, 0.1]).double().view(1, 3, 1, 1),
    "none": torch.tensor([-0.1, 0.4, 0.2]).double().view(1, 3, 1, 1),
}
SPREAD, NONE = 0.7, {"": "none"}


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize(("t", "share"), [(100, 0.5), (500, 0.2), (900, 1.0)])
def test_the_mean_of_esd_is_the_closed_form(t, share, schedule):
    """c (z - mu_g) - c_phi [(1 - lambda) (z - m_y) + lambda (z - m_none)]."""
    model = prior(schedule=schedule)
    alpha, sigma = coefficients(model, t)
    theirs = sigma * alpha / (alpha**2 * SPREAD**2 + sigma**2)
    seen, free = (views() - mu(text) - MOVED[text] for text in ("y", "none"))
    expected = pull(model, t) * (views() - guided_mu(2)) - theirs * ((1 - share) * seen + share * free)
    agree(draw(esd(model, share, weighting="one", **at(t)), model, NONE), expected, power=5)


def test_esd_of_no_share_is_vsd_and_every_other_a_mixture_of_its_ends():
    """lambda = 0 asks for no other text and the adapter for nothing more: VSD itself, bit by bit."""
    model, z = prior(), views(20)
    found = {share: esd(model, share).residual(z, ask(z, model, NONE, seed=3)) for share in (0, 0.25, 1)}
    assert esd(model, 0).texts() == ()
    assert esd(model, 0.25).texts() == ("",)
    plain = bound(model, guidance_scale=2)
    plain.load_state_dict(esd(model, 0).state_dict())
    assert torch.equal(plain.residual(z, ask(z, model, seed=3)), found[0])
    torch.testing.assert_close(found[0.25], 0.75 * found[0] + 0.25 * found[1])
    assert (found[1] - found[0]).abs().max() > 0.1


class Recorder(Omniscient):
    """One that notes what it is asked."""

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        self.noisy, self.timestep, self.conditioning = noisy, timestep, conditioning
        return super().forward(noisy, timestep, conditioning)


def test_esd_asks_for_both_predictions_in_one_call_and_one_knows_nothing_of_the_view():
    """The same z_t twice: with pose and prompt, and with a pose of zeros and no words, for words name the view, too."""
    model, z = prior(), views(3)
    loss, inputs = bound(model, camera_free=0.5), ask(z, model, NONE)
    prompt = inputs.prompt
    seen, other, free = (replace(text, cameras=inputs.cameras) for text in (prompt.positive, prompt.negative, prompt.texts[""]))
    inputs = replace(inputs, prompt=replace(prompt, positive=seen, negative=other, texts={"": free}))
    loss.adapter = recorder = Recorder(z.repeat(2, 1, 1, 1), model)
    loss.residual(z, inputs)
    asked = recorder.conditioning
    assert len(asked) == 6
    assert torch.equal(recorder.noisy[:3], recorder.noisy[3:])
    assert torch.equal(recorder.timestep[:3], recorder.timestep[3:])
    assert torch.equal(asked.embedding, torch.cat([seen.embedding, prompt.texts[""].embedding]))
    assert torch.equal(asked.cameras.camera_to_world[:3], inputs.cameras.camera_to_world)
    assert not asked.cameras.camera_to_world[3:].any()


def test_esd_trains_the_prediction_without_the_view_on_the_views_whose_camera_is_dropped():
    """All dropped: the Gaussian of the empty text follows the renders, the prompt's gets no gradient. In VSD it does."""
    for share, moves, stays in ((0.5, "none", "y"), (0, "y", "none")):
        model = prior(1)
        loss = bound(model, adapter_lr=0.02, camera_dropout=1, camera_free=share)
        z = torch.tensor([0.4, -0.5, 0.1]).view(1, 3, 1, 1) + 0.5 * torch.randn(256, 3, 1, 1, generator=seeded(2))
        inputs = replace(ask(z.double(), model, NONE), generator=seeded(3))
        for _ in range(200):
            loss.end_step(inputs)
        means, moved, still = adapter_of(loss).means, model.texts.index(moves), model.texts.index(stays)
        torch.testing.assert_close(means[moved].float(), z.mean(0), atol=0.06, rtol=0)
        assert means.grad is not None
        assert means.grad[moved].all()
        assert not means.grad[still].any()


def test_esd_refuses_to_ask_for_what_is_never_trained():
    with pytest.raises(ValueError, match=r"camera_dropout: 0 never trains; write e\.g\. camera_dropout: 0\.5"):
        VSD.Config(camera_free=0.5, camera_dropout=0)


def moved_to(z: Tensor, inputs: LossInputs) -> LossInputs:
    """The same inputs, generator included, with `z` for the render."""
    image = ((z + 1) / 2).permute(0, 2, 3, 1)
    return replace(inputs, render=RenderOutput(image, inputs.render.opacity, inputs.render.depth))


def particles(loss: VSD | SDS, start: float, steps: int = 300, count: int = 128) -> Tensor:
    """Independent images of one pixel under plain descent, all in one batch; they begin at 0 with a spread of `start`."""
    model, generator = prior(1), seeded(1)
    loss.bind(LossSetup(model, None, None, generator))
    z = start * torch.randn(count, 3, 1, 1, generator=generator, dtype=torch.float64)
    base = replace(ask(z, model), generator=generator)
    for step in range(steps):
        inputs = moved_to(z, base)
        z = z - 0.2 * (1 - step / steps) * loss.residual(z, inputs)
        loss.end_step(inputs)
    return z


@pytest.mark.parametrize("start", [0.02, 0.6])
def test_9_the_spread_of_particles_goes_to_the_datas_where_sds_collapses(start):
    options = {"guidance_scale": 1, "weighting": "one"}
    ours = particles(VSD(VSD.Config.model_validate(options | {"adapter_lr": 0.05})), start)
    theirs = particles(SDS(SDS.Config.model_validate(options)), start)
    assert ours.std(0).mean().item() == pytest.approx(STD, rel=0.12)
    assert theirs.std(0).mean() < STD / 3
    for found in (ours, theirs):
        assert (found.mean(0, keepdim=True) - mu("y")).abs().max() < 0.06


def test_the_adapter_learns_means_and_spread_of_the_renders():
    """On renders that stay: N(m, 0.5^2) of one pixel, to the sample's own mean and spread."""
    model = prior(1)
    loss = bound(model, adapter_lr=0.02)
    z = torch.tensor([0.4, -0.5, 0.1]).view(1, 3, 1, 1) + 0.5 * torch.randn(256, 3, 1, 1, generator=seeded(2))
    inputs = replace(ask(z.double(), model), generator=seeded(3))
    for _ in range(200):
        loss.end_step(inputs)
    adapter = adapter_of(loss)
    torch.testing.assert_close(adapter.means[0].float(), z.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(adapter.log_std[0].exp().float(), z.std(0).flatten(), atol=0.05, rtol=0)


def test_the_exact_adapter_starts_as_the_model_for_mixtures_too():
    model = prior()
    text = model.encode_text(["y", "", "n"])
    z, t = views(3), torch.tensor([100, 500, 900])
    found = model.adapter(4, seeded())(z, t, text)
    torch.testing.assert_close(found, model.predict(z, t, text), rtol=1e-12, atol=1e-12)
    assert found.requires_grad


def test_the_adapters_error_is_a_number_of_the_loss():
    """sum |eps_phi(z_t, t) - eps|^2 / B of the step's own draws, t then noise, by hand; taken once, and replaced by the next."""
    model, z, draws = prior(), views(4), seeded(5)
    loss = bound(model, camera_dropout=0)
    assert take_numbers(loss) == {}
    t = torch.randint(0, 1000, (4,), generator=draws)
    eps = torch.randn(z.shape, generator=draws, dtype=z.dtype)
    predicted = adapter_of(loss)(model.add_noise(z, eps, t), t, model.encode_text(["y"] * 4)).detach()
    expected = (predicted - eps).square().sum() / 4
    loss.end_step(ask(z, model, seed=5))
    found = take_numbers(loss)
    assert set(found) == {"adapter"}
    torch.testing.assert_close(found["adapter"], expected)
    assert not found["adapter"].requires_grad
    assert take_numbers(loss) == {}
    loss.end_step(ask(z, model, seed=6))
    loss.end_step(ask(z, model, seed=7))
    later = take_numbers(loss)["adapter"]
    fresh = bound(model, camera_dropout=0)
    for seed in (5, 6, 7):
        fresh.end_step(ask(z, model, seed=seed))
    assert torch.equal(later, take_numbers(fresh)["adapter"])


def test_a_run_tells_the_adapters_error_by_where_the_loss_stands(tmp_path):
    """Finite, above 0, in each step's record; a run without the loss has no such number."""
    _, records = trained(config(PIXELS, tmp_path, losses={"particles": {"type": "vsd", "guidance_scale": 1}}))
    assert len(records) == 6
    assert all(set(record.numbers) == {"losses.particles.adapter"} for record in records)
    assert all(0 < record.numbers["losses.particles.adapter"] < 1e4 for record in records)
    assert len({record.numbers["losses.particles.adapter"] for record in records}) == 6
    _, records = trained(config(PIXELS, tmp_path))
    assert [record.numbers for record in records] == [{}] * 6


def test_views_that_are_seen_together_share_the_adapters_timestep(monkeypatch):
    """Two scenes of two views: what the adapter is asked at comes in pairs."""
    model, z, seen = prior(), views(4), []
    loss = bound(model)
    inner = model.add_noise
    monkeypatch.setattr(model, "add_noise", lambda clean, noise, t: (seen.append(t.tolist()), inner(clean, noise, t))[1])
    inputs = ask(z, model)
    loss.end_step(replace(inputs, views=Views(inputs.cameras.in_groups(2))))
    ((a, b, c, d),) = seen
    assert (a, c) == (b, d)
    assert a != c
