"""Score distillation against the closed form that a Gaussian's ideal predictions give it."""

from __future__ import annotations

from dataclasses import replace

import loss_inputs
import pytest
import torch
from torch import Tensor

from dfw import ConfigError, Progress
from dfw_guidance.gaussian import Gaussian
from dfw_losses.sds import SDS

MEAN = (0.9, 0.2, 0.4)
STD = 0.3


def gaussian(side: int = 2) -> Gaussian:
    means = {"a": MEAN, "b": (0.1, 0.8, 0.5)}
    return Gaussian(Gaussian.Config.model_validate({"means": means, "std": STD, "resolution": side}))


def sds(**options: object) -> SDS:
    return SDS(SDS.Config.model_validate({"guidance_scale": 1, **options}))


def gradient(loss: SDS, image: Tensor, guidance: Gaussian, **where: object) -> Tensor:
    """d loss / d image."""
    image = image.clone().requires_grad_()
    loss(loss_inputs.of_image(image, guidance, "a", **where)).backward()  # type: ignore[arg-type]
    assert image.grad is not None
    return image.grad


def mean() -> Tensor:
    return 2 * torch.tensor(MEAN).view(1, 3, 1, 1) - 1


@pytest.mark.parametrize("t", [0.05, 0.3, 0.7])
def test_the_mean_gradient_is_the_closed_form(t: float) -> None:
    """E = w alpha sigma (z - mu) / (alpha^2 s^2 + sigma^2), within five standard errors of 20,000 draws at one timestep."""
    guidance, count = gaussian(), 20_000
    alpha, sigma = (float(part[round(1000 * t)]) for part in (guidance.schedule.alpha, guidance.schedule.sigma))
    image = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(5))
    drawn = gradient(sds(t_min=t, t_max=t), image.expand(count, 3, 2, 2), guidance) * count  # per view, undoing the batch's mean
    z = 2 * image - 1
    expected = 2 * sigma**2 * alpha * sigma * (z - mean()) / (alpha**2 * STD**2 + sigma**2)  # 2: dz / d image
    error = drawn.std(0, keepdim=True) / count**0.5
    assert ((drawn.mean(0, keepdim=True) - expected) / error).abs().max() < 5
    assert (expected / error).abs().max() > 20  # the test could have seen a wrong one


def test_each_draw_is_weight_times_residual() -> None:
    """The same generator drawn by hand: timesteps first, then noise."""
    guidance, loss = gaussian(), sds(guidance_scale=7.5, weighting="one")
    image = torch.rand(3, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(11)
    t = torch.randint(20, 981, (3,), generator=generator)
    eps = torch.randn(3, 3, 2, 2, generator=generator)
    z_t = guidance.add_noise(2 * image - 1, eps, t)
    with_prompt, without = (guidance.predict(z_t, t, guidance.encode_text([text] * 3)) for text in ("a", "b"))
    residual = without + 7.5 * (with_prompt - without) - eps
    found = gradient(loss, image, guidance, negative="b", seed=11)
    torch.testing.assert_close(found, 2 * residual / 3)
    value = loss(loss_inputs.of_image(image, guidance, "a", "b", seed=11))
    assert value.item() == pytest.approx(residual.square().sum().item() / 6, rel=1e-5)


def test_the_batch_size_does_not_change_the_mean_gradient() -> None:
    """Views repeated twice: each view's share halves, their sum, the scene's gradient, stays."""
    guidance, loss = gaussian(), sds(t_min=0.5, t_max=0.5)
    image = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    small, large = (gradient(loss, image.expand(n, 3, 2, 2), guidance).sum(0) for n in (4_000, 16_000))
    torch.testing.assert_close(small, large, rtol=0.1, atol=0.02)


def test_image_size_does_not_change_a_pixels_gradient() -> None:
    """Elements are summed, not averaged: a larger image of the same colour has the same gradient at every pixel, on average."""
    loss = sds(t_min=0.5, t_max=0.5)
    grads = [gradient(loss, torch.full((4_000, 3, side, side), 0.5), gaussian(side)).sum(0).mean((1, 2)) for side in (2, 4)]
    torch.testing.assert_close(grads[0], grads[1], rtol=0.1, atol=0.01)


@pytest.mark.parametrize("scale", [1, 10])
def test_pixels_converge_to_the_prompts_mean(scale: float) -> None:
    """Mode seeking: whatever the prompt's spread, the image ends at its mean; guidance pushes it on, away from the other."""
    guidance, loss = gaussian(), sds(guidance_scale=scale)
    image = torch.full((16, 3, 2, 2), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for step in range(400):
        inputs = loss_inputs.of_image(image, guidance, "a", "", progress=Progress(step, 400))
        inputs = replace(inputs, generator=generator)
        optimizer.zero_grad()
        loss(inputs).backward()
        optimizer.step()
    found = image.detach().mean((0, 2, 3))
    if scale == 1:
        torch.testing.assert_close(found, torch.tensor(MEAN), rtol=0, atol=0.03)
    else:
        assert found[0] > MEAN[0] - 0.03
        assert found[1] < MEAN[1] + 0.03


def test_no_graph_goes_through_the_score_model() -> None:
    guidance = gaussian()
    inputs = loss_inputs.of_image(torch.full((1, 3, 2, 2), 0.5, requires_grad=True), guidance, "a")
    assert not sds().residual(inputs.encoded, inputs).requires_grad


def test_timesteps_follow_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    guidance, seen = gaussian(), []
    inner = guidance.add_noise

    def watch(clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        seen.append(timestep)
        return inner(clean, noise, timestep)

    monkeypatch.setattr(guidance, "add_noise", watch)
    loss = sds(t_min=0.1, t_max={"from": 0.9, "to": 0.2})
    for step in (0, 50, 99):
        loss(loss_inputs.of_image(torch.full((2_000, 3, 2, 2), 0.5), guidance, "a", progress=Progress(step, 100)))
    assert [(t.min().item(), t.max().item()) for t in seen] == [(100, 900), (100, 550), (100, 207)]


def test_same_stream_same_gradient_other_stream_another() -> None:
    guidance, image = gaussian(), torch.full((2, 3, 2, 2), 0.5)
    first, same, other = (gradient(sds(), image, guidance, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_run_without_guidance_is_told_to_add_one() -> None:
    with pytest.raises(ValueError, match="guidance"):
        sds()(loss_inputs.of_opacity(torch.ones(1, 2, 2)))
    inputs = loss_inputs.of_opacity(torch.ones(1, 2, 2))
    with pytest.raises(ConfigError, match="add a guidance: section"):
        sds().residual(torch.zeros(1, 3, 2, 2), inputs)


def test_a_backwards_range_is_refused_with_the_papers() -> None:
    with pytest.raises(ValueError, match=r"t_min \(0.98\) lies above t_max \(0.02\); DreamFusion uses"):
        sds(t_min=0.98, t_max=0.02)


def test_it_needs_a_noise_predictor() -> None:
    assert SDS.requires(SDS.Config()) == {"noise-prediction"}
