"""The score model's arithmetic, by the Gaussian whose ideal predictions are known in closed form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from dfw import Conditioning, GuidanceError, NoiseSchedule, PromptError
from dfw.interfaces.predictions import PREDICTIONS
from dfw_guidance.gaussian import Gaussian

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def gaussian(**options: object) -> Gaussian:
    settings = {"means": {"red": RED, "blue": BLUE}, "std": 0.2, "resolution": 4, **options}
    return Gaussian(Gaussian.Config.model_validate(settings)).double()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_of(colour: tuple[float, float, float]) -> Tensor:
    return 2 * torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1) - 1


def at(model: Gaussian, t: Tensor) -> tuple[Tensor, Tensor]:
    return model.schedule.alpha[t].double().view(-1, 1, 1, 1), model.schedule.sigma[t].double().view(-1, 1, 1, 1)


def test_schedule_is_the_cumulative_product_of_ddpm() -> None:
    schedule, abar = gaussian().schedule, 1.0
    for t in range(1000):
        abar *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert schedule.alpha[t].item() == pytest.approx(abar**0.5, rel=1e-5)
        assert schedule.sigma[t].item() == pytest.approx((1 - abar) ** 0.5, rel=1e-5)


def test_sigma_keeps_its_digits_where_alpha_is_nearly_one() -> None:
    schedule = NoiseSchedule.from_alphas_cumprod(torch.tensor([1 - 1e-10], dtype=torch.float64))
    assert schedule.sigma.item() == pytest.approx(1e-5, rel=1e-5)


def test_one_gaussian_has_the_ideal_prediction() -> None:
    model, z, t = gaussian(), noise(3, 3, 4, 4), torch.tensor([0, 400, 999])
    alpha, sigma = at(model, t)
    expected = sigma * (z - alpha * mean_of(RED)) / (alpha**2 * 0.2**2 + sigma**2)
    torch.testing.assert_close(model.predict_noise(z, t, model.encode_text(["red"] * 3)), expected)


def test_the_prediction_is_the_conditional_mean_of_the_noise() -> None:
    """E[eps | z_t] by regression on samples: for Gaussians it is linear in z_t, with the covariances' slope."""
    model, count = gaussian(resolution=1), 200_000
    t = torch.full((count,), 300)
    clean, eps = mean_of(BLUE) + 0.2 * noise(count, 3, 1, 1), noise(count, 3, 1, 1, seed=1)
    z = model.add_noise(clean, eps, t)
    slope = ((z - z.mean(0)) * eps).mean() / (z - z.mean(0)).square().mean()
    two = torch.stack([z.mean(0), z.mean(0) + 1])
    predicted = model.predict(two, t[:2], model.encode_text(["blue"] * 2))
    assert (predicted[1] - predicted[0]).mean().item() == pytest.approx(slope.item(), rel=0.01)
    assert predicted[0].abs().max() < 0.01


def test_no_prompt_is_the_even_mixture_and_its_score() -> None:
    """eps = -sigma d/dz log p(z_t), the density written out and differentiated by autograd."""
    model, t = gaussian(), torch.tensor([250])
    z = (0.1 * noise(1, 3, 4, 4)).requires_grad_()
    alpha, sigma = at(model, t)
    variance = alpha**2 * 0.2**2 + sigma**2
    log_density = torch.stack(
        [torch.distributions.Normal(alpha * mean_of(colour), variance.sqrt()).log_prob(z).sum() for colour in (RED, BLUE)]
    ).logsumexp(0)
    (score,) = torch.autograd.grad(log_density, z)
    torch.testing.assert_close(model.predict_noise(z.detach(), t, model.encode_text([""])), -sigma * score)


def test_guidance_scale_is_diffusers_and_takes_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model, z, t = gaussian(), noise(2, 3, 4, 4), torch.tensor([100, 800])
    positive, negative = model.encode_text(["red"] * 2), model.encode_text(["blue"] * 2)
    with_prompt, without = model.predict(z, t, positive), model.predict(z, t, negative)
    calls: list[int] = []
    inner = model.predict

    def counted(noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        calls.append(len(noisy))
        return inner(noisy, timestep, conditioning)

    monkeypatch.setattr(model, "predict", counted)
    for scale, expected in ((7.5, -6.5 * without + 7.5 * with_prompt), (1.0, with_prompt), (0.0, without)):
        torch.testing.assert_close(model.predict_noise_guided(z, t, positive, negative, scale), expected)
    assert calls == [4, 2, 2]


def test_clean_estimate_undoes_the_noise() -> None:
    model, clean, eps, t = gaussian(), noise(3, 3, 4, 4), noise(3, 3, 4, 4, seed=1), torch.tensor([5, 500, 999])
    torch.testing.assert_close(model.predict_clean(model.add_noise(clean, eps, t), t, eps), clean, rtol=1e-5, atol=1e-6)


def test_images_are_spread_to_plus_minus_one_and_back() -> None:
    model = gaussian()
    x = torch.tensor([0.0, 0.25, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert model.encode_image(x)[0, :, 0, 0].tolist() == [-1.0, -0.5, 1.0]
    torch.testing.assert_close(model.decode_image(model.encode_image(x)), x)


def test_view_words_after_a_comma_and_the_longest_known_prompt() -> None:
    model = gaussian(means={"red": RED, "red, back view": BLUE})
    rows = model.encode_text(["red", "red, front view", "red, back view", ""]).embedding[:, 0]
    assert rows.tolist() == [[1, 0], [1, 0], [0, 1], [0.5, 0.5]]
    with pytest.raises(PromptError, match=r"no mean for 'reddish'; known: red, red, back view"):
        model.encode_text(["reddish"])


def test_an_image_file_is_a_mean(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    picture = Image.new("RGB", (4, 4), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 2, 4, 4))
    picture.save(path)
    model = gaussian(means={"half": str(path)})
    assert model.means[0, :, 0, 0].tolist() == [1, -1, -1]
    assert model.means[0, :, 3, 3].tolist() == [-1, -1, 1]
    with pytest.raises(GuidanceError, match=r"guidance\.means: cannot read the image .*gone\.png"):
        gaussian(means={"half": str(tmp_path / "gone.png")})


def test_joining_conditionings_keeps_the_order() -> None:
    a, b = Conditioning(torch.zeros(1, 2, 3), torch.zeros(1, 4)), Conditioning(torch.ones(2, 2, 3), torch.ones(2, 4))
    joined = Conditioning.cat([a, b])
    assert joined.embedding[:, 0, 0].tolist() == [0, 1, 1]
    assert joined.pooled is not None
    assert joined.pooled[:, 0].tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="cannot join records whose pooled differs"):
        Conditioning.cat([a, Conditioning(torch.ones(2, 2, 3))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"means": {}}, "at least 1 item"),
        ({"means": {" ": RED}}, "mixture of all others"),
        ({"means": {"red": [2, 0, 0]}}, r"three numbers in \[0, 1\]"),
        ({"std": 0}, "greater than 0"),
    ],
)
def test_a_wrong_configuration_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian(**options)


@pytest.mark.parametrize(("name", "output"), [("epsilon", 2.0), ("v_prediction", 0.8), ("sample", 0.5), ("flow", 1.5)])
def test_every_prediction_type_says_what_the_noise_is(name: str, output: float) -> None:
    """z = 0.5 and eps = 2 at alpha = 0.6, sigma = 0.8: v is 1.2 - 0.4, a flow 2 - 0.5, and the noisy number 0.3 + 1.6."""
    z, eps, alpha, sigma = (torch.tensor(value, dtype=torch.float64) for value in (0.5, 2.0, 0.6, 0.8))
    meaning = PREDICTIONS[name]
    assert float(meaning.output(z, eps, alpha, sigma)) == pytest.approx(output)
    assert float(
        meaning.noise(torch.tensor(output, dtype=torch.float64), torch.tensor(1.9, dtype=torch.float64), alpha, sigma)
    ) == pytest.approx(2.0)


def test_the_names_are_those_of_diffusers() -> None:
    import diffusers

    for name in ("epsilon", "v_prediction", "sample"):
        assert diffusers.DDIMScheduler(prediction_type=name).config.prediction_type in PREDICTIONS
