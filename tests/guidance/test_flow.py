"""Rectified flows: the conversion by a Gaussian in closed form, Stable Diffusion 3 and Flux against diffusers' own pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from prior_checks import noise, picture, steps_of, two_steps
from tiny_deep_floyd import save_tiny_deep_floyd
from tiny_diffusion import LENGTH
from tiny_flow import SCALE, SHIFT, save_tiny_flux, save_tiny_sd3
from torch import Tensor

from dfw import Conditioning, GuidanceError, NoiseSchedule
from dfw_guidance.flow import Flow, flow_schedule


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd3(tmp_path_factory.mktemp("models") / "sd3")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_flux(tmp_path_factory.mktemp("models") / "flux")


def load(folder: Path, **options: Any) -> Flow:
    return Flow(Flow.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


class IdealFlow(Flow):
    """The velocity of a rectified flow whose data are N(mu, s^2 I), in place of a network."""

    def __init__(self, mean: Tensor, std: float) -> None:
        torch.nn.Module.__init__(self)
        self.mean, self.std = mean, std
        self.schedule = NoiseSchedule.from_flow((torch.arange(1000) + 0.5) / 1000)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """E[eps - z | z_t]: both are Gaussian given z_t, whose covariance with eps is s and with z is (1 - s) std^2."""
        s = ((timestep + 0.5) / 1000).double().view(-1, 1, 1, 1)
        away = (noisy - (1 - s) * self.mean) / ((1 - s) ** 2 * self.std**2 + s**2)
        return s * away - (self.mean + (1 - s) * self.std**2 * away)


def test_the_ideal_velocity_becomes_the_ideal_noise() -> None:
    """eps(z, t) = sigma_t (z - alpha_t mu)/(alpha_t^2 s^2 + sigma_t^2), the closed form for N(mu, s^2 I)."""
    mean = noise(1, 3, 4, 4, seed=1).double()
    model, t, z = IdealFlow(mean, 0.3), torch.tensor([0, 250, 999]), noise(3, 3, 4, 4).double()
    s = (t + 0.5).double().view(3, 1, 1, 1) / 1000
    expected = s * (z - (1 - s) * mean) / ((1 - s) ** 2 * 0.3**2 + s**2)
    found = model.predict_noise(z, t, Conditioning(torch.zeros(3, 1, 1)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    clean = model.predict_clean(z, t, found)
    torch.testing.assert_close(clean, z - s * model.predict(z, t, Conditioning(torch.zeros(3, 1, 1))), rtol=1e-3, atol=1e-3)


def test_a_known_velocity_gives_back_the_noise_that_was_added(sd3: Path) -> None:
    model = load(sd3)
    clean, truth, t = noise(3, 4, 8, 8), noise(3, 4, 8, 8, seed=1), torch.tensor([0, 500, 999])
    noisy = model.add_noise(clean, truth, t)
    torch.testing.assert_close(model.target(clean, truth, t), truth - clean)
    handle = model.transformer.register_forward_hook(lambda _module, _inputs, output: type(output)(sample=truth - clean))
    found = model.predict_noise(noisy, t, model.encode_text(["a red car"] * 3))
    handle.remove()
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.predict_clean(noisy, t, found), clean, rtol=1e-2, atol=2e-2)


def test_the_schedule_is_shifted_as_the_sampler_does(sd3: Path) -> None:
    model = load(sd3)
    plain = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    plain[-1] = 0.9995
    expected = 3 * plain / (1 + 2 * plain)
    torch.testing.assert_close(model.schedule.sigma.double(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.schedule.alpha.double(), 1 - expected, rtol=1e-3, atol=1e-7)
    assert model.schedule.alpha.min() > 0


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.15), (2176, 0.825)])
def test_flux_shifts_by_the_number_of_tokens(tokens: int, mu: float) -> None:
    settings = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True, "shift": 3.0}
    k = torch.tensor(mu, dtype=torch.float64).exp()
    found = flow_schedule(settings, tokens).sigma[499].double()
    torch.testing.assert_close(found, k * 0.5 / (1 + (k - 1) * 0.5), rtol=1e-6, atol=1e-7)


def test_a_scheduler_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="its scheduler DDIMScheduler is not a flow-matching scheduler"):
        flow_schedule({"_class_name": "DDIMScheduler"}, 1024)


@pytest.mark.parametrize("t5", [True, False])
def test_stable_diffusion_3_predicts_as_inside_its_pipeline(sd3: Path, t5: bool, tmp_path: Path) -> None:
    folder = sd3 if t5 else save_tiny_sd3(tmp_path / "small", t5=False)
    absent = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    model, pipeline = load(folder), StableDiffusion3Pipeline.from_pretrained(str(folder), **absent)
    steps = steps_of(
        pipeline, prompt="a red car", negative_prompt="a blue cube", guidance_scale=7.0, sigmas=[0.9, 0.5], output_type="latent"
    )
    check_steps(model, steps, 7.0)


@pytest.mark.parametrize("guided", [True, False])
def test_flux_predicts_as_inside_its_pipeline(flux: Path, guided: bool, tmp_path: Path) -> None:
    folder = flux if guided else save_tiny_flux(tmp_path / "schnell", guidance_embeds=False)
    model, pipeline = load(folder, resolution=16, embedded_guidance=2.5), FluxPipeline.from_pretrained(str(folder))
    steps = steps_of(
        pipeline,
        prompt="a red car",
        negative_prompt="a blue cube",
        guidance_scale=2.5,
        true_cfg_scale=4.0,
        sigmas=[0.9, 0.5],
        height=16,
        width=16,
        output_type="latent",
    )
    unpacked = [(unpack(output), t, unpack(sample)) for output, t, sample in steps]
    check_steps(model, unpacked, 4.0)


def unpack(tokens: Tensor) -> Tensor:
    """16 tokens of 2x2 latent pixels, 4 channels -> (1, 4, 8, 8)."""
    return FluxPipeline._unpack_latents(tokens, 16, 16, 2)


def check_steps(model: Flow, steps: list[tuple[Tensor, float, Tensor]], scale: float) -> None:
    """Guided velocity of each of the pipeline's steps, as noise: z + (1 - s) v; the timestep index is that of its noise level."""
    positive, negative = model.encode_text(["a red car"]), model.encode_text(["a blue cube"])
    assert len(steps) == 2
    for (velocity, level, sample), index in zip(steps, (899, 499), strict=True):
        assert float(model.schedule.sigma[index]) == pytest.approx(level / 1000, rel=1e-6)
        with torch.no_grad():
            found = model.predict_noise_guided(sample, torch.tensor([index]), positive, negative, scale)
        torch.testing.assert_close(found, sample + (1 - level / 1000) * velocity, rtol=1e-4, atol=1e-4)


def test_encoding_is_shifted_and_scaled_and_decoding_its_inverse(sd3: Path) -> None:
    model, z = load(sd3), noise(1, 4, 8, 8)
    moments = model.vae.quant_conv(model.vae.encoder(2 * picture() - 1))
    torch.testing.assert_close(model.encode_image(picture()), (moments[:, :4] - SHIFT) * SCALE)
    expected = (model.vae.decoder(model.vae.post_quant_conv(z / SCALE + SHIFT)) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(model.decode_image(z), expected)
    x = picture(1).requires_grad_()
    assert torch.autograd.grad(model.encode_image(x).sum(), x)[0].abs().sum() > 0


def test_texts_have_the_tokens_of_all_encoders(sd3: Path, flux: Path) -> None:
    text = load(sd3).encode_text(["a red car"])
    assert text.embedding.shape == (1, LENGTH + 256, 20)
    assert text.pooled is not None
    assert text.pooled.shape == (1, 16)
    without = load(sd3, t5=False).encode_text(["a red car"])
    torch.testing.assert_close(without.embedding[:, :LENGTH], text.embedding[:, :LENGTH])
    assert without.embedding[:, LENGTH:].abs().max() == 0
    assert load(flux, resolution=16).encode_text(["a red car"]).embedding.shape == (1, 512, 8)


def test_t5_is_gone_after_reading_and_not_needed_with_its_answers(sd3: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "car.safetensors")
    model = load(sd3, embeddings=path)
    expected = model.encode_text(["a red car", ""])
    assert {name for name, _ in model.named_children()} == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    folder = save_tiny_sd3(tmp_path / "bare")
    (folder / "text_encoder_3" / "model.safetensors").unlink()
    torch.testing.assert_close(load(folder, embeddings=path).encode_text(["a red car", ""]).embedding, expected.embedding)
    with pytest.raises(GuidanceError, match=r"lacks text_encoder_3/model\.safetensors: it is not a complete Stable Diffusion 3"):
        load(folder)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GuidanceError, match=r"is a IFPipeline; write guidance\.type=deep-floyd"):
        load(save_tiny_deep_floyd(tmp_path / "if"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GuidanceError, match=r"unknown \(it has no model_index\.json\); flow reads StableDiffusion3Pipeline"):
        load(tmp_path / "empty")


def test_bf16_stays_inside(sd3: Path) -> None:
    half, model = load(sd3, precision="bf16"), load(sd3)
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    found = half.predict(z, t, half.encode_text(["a red car"] * 2))
    assert found.dtype == half.schedule.sigma.dtype == torch.float32
    torch.testing.assert_close(found, model.predict(z, t, model.encode_text(["a red car"] * 2)), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_score_distillation_runs_from_yaml(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(kind)
    rows = two_steps(tmp_path, {"type": "dreamfw/flow", "model": str(folder), "resolution": 16})
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)
