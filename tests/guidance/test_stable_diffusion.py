"""Stable Diffusion through the real classes: tiny random models, loaded the way any model is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_diffusion import LENGTH, WIDTH, save_tiny_model
from torch import Tensor

from dfw import Conditioning, PromptError
from dfw_guidance.stable_diffusion import StableDiffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    return load(folder)


def load(folder: Path, **options: str | bool) -> StableDiffusion:
    return StableDiffusion(StableDiffusion.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_sizes_come_from_the_model_files(model: StableDiffusion) -> None:
    assert (model.space, model.channels, model.latent_resolution, model.resolution) == ("latent", 4, 8, 16)
    assert model.encode_image(image()).shape == (2, 4, 8, 8)
    assert model.decode_image(noise(2, 4, 8, 8)).shape == (2, 3, 16, 16)
    assert model.encode_text(["a red car"]).embedding.shape == (1, LENGTH, WIDTH)


def test_schedule_is_that_of_the_scaled_linear_betas(model: StableDiffusion) -> None:
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = torch.exp(torch.log1p(-beta).cumsum(0))
    assert len(model.schedule) == 1000
    torch.testing.assert_close(model.schedule.alpha.double(), abar.sqrt(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.schedule.sigma.double(), (1 - abar).sqrt(), rtol=1e-4, atol=1e-5)


def test_everything_is_frozen_and_stays_in_evaluation_mode(model: StableDiffusion) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.train()
    assert not any(module.training for module in model.modules())


def test_the_three_parametrisations_predict_the_same_noise(folder: Path, tmp_path: Path) -> None:
    """One truth (z0, eps), told to each model as the output it is trained to give: eps, alpha eps - sigma z0, or z0."""
    clean, truth, timestep = noise(3, 4, 8, 8), noise(3, 4, 8, 8, seed=1), torch.tensor([20, 500, 950])
    for kind in ("epsilon", "v_prediction", "sample"):
        model = load(save_tiny_model(tmp_path / kind, prediction_type=kind))
        assert model.prediction_type == kind
        alpha, sigma = (part.view(3, 1, 1, 1) for part in (model.schedule.alpha[timestep], model.schedule.sigma[timestep]))
        output = {"epsilon": truth, "v_prediction": alpha * truth - sigma * clean, "sample": clean}[kind]
        handle = model.unet.conv_out.register_forward_hook(lambda _module, _inputs, _output, output=output: output)
        found = model.predict_noise(model.add_noise(clean, truth, timestep), timestep, model.encode_text(["a red car"] * 3))
        handle.remove()
        torch.testing.assert_close(found, truth, rtol=1e-4, atol=2e-5)


def test_guidance_is_one_call_with_the_unconditional_half_first(model: StableDiffusion) -> None:
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    positive, negative = model.encode_text(["a red car", "a blue cube"]), model.encode_text(["", ""])
    with_prompt, without = model.predict(z, t, positive), model.predict(z, t, negative)
    sizes, halves = [], []

    def watch(_module: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        sizes.append(len(args[0]))
        halves.append(kwargs["encoder_hidden_states"])

    handle = model.unet.register_forward_pre_hook(watch, with_kwargs=True)
    guided = model.predict_noise_guided(z, t, positive, negative, 7.5)
    assert sizes == [4]
    torch.testing.assert_close(halves[0][:2], negative.embedding)
    torch.testing.assert_close(model.predict_noise_guided(z, t, positive, negative, 1), with_prompt, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.predict_noise_guided(z, t, positive, negative, 0), without, rtol=1e-4, atol=1e-5)
    assert sizes == [4, 2, 2]
    handle.remove()
    torch.testing.assert_close(guided, without + 7.5 * (with_prompt - without), rtol=1e-4, atol=1e-4)


def test_the_prompt_matters_and_the_batch_does_not(model: StableDiffusion) -> None:
    z, t = noise(3, 4, 8, 8), torch.tensor([100, 500, 900])
    texts = ["a red car", "a blue cube", ""]
    together = model.predict(z, t, model.encode_text(texts))
    alone = torch.cat([model.predict(z[i : i + 1], t[i : i + 1], model.encode_text(texts[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    other = model.predict(z, t, model.encode_text(["a blue cube", "a red car", "a red car"]))
    assert (together - other).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def test_predictions_match_the_network_called_directly(model: StableDiffusion) -> None:
    z, t = noise(2, 4, 8, 8), torch.tensor([3, 998])
    tokens = model.tokenizer(["a red car"] * 2, padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    hidden = model.text_encoder(tokens).last_hidden_state
    expected = model.unet(z, t, encoder_hidden_states=hidden).sample
    torch.testing.assert_close(model.predict(z, t, model.encode_text(["a red car"] * 2)), expected)


def test_each_text_is_encoded_once(folder: Path) -> None:
    model, batches = load(folder), []
    model.text_encoder.register_forward_pre_hook(lambda _m, args, kwargs: batches.append(len(args[0])), with_kwargs=True)
    first = model.encode_text(["a red car", "", "a red car"])
    again = model.encode_text(["", "a red car"])
    assert batches == [2]
    torch.testing.assert_close(first.embedding[0], first.embedding[2], rtol=0, atol=0)
    torch.testing.assert_close(again.embedding, first.embedding[[1, 0]], rtol=0, atol=0)


def test_encoding_draws_nothing_and_is_the_scaled_posterior_mean(model: StableDiffusion) -> None:
    before = torch.random.get_rng_state()
    found = model.encode_image(image())
    assert torch.equal(before, torch.random.get_rng_state())
    moments = model.vae.quant_conv(model.vae.encoder(2 * image() - 1))
    torch.testing.assert_close(found, moments[:, :4] * 0.18215)


def test_decoding_undoes_the_scaling(model: StableDiffusion) -> None:
    z = noise(1, 4, 8, 8)
    expected = (model.vae.decoder(model.vae.post_quant_conv(z / 0.18215)) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(model.decode_image(z), expected)


def test_encoding_is_differentiable_by_finite_differences(folder: Path) -> None:
    model = load(folder)
    model.vae.double()
    x, direction = image(1).double().requires_grad_(), noise(1, 3, 16, 16).double()
    probe = noise(1, 4, 8, 8, seed=2).double()
    (gradient,) = torch.autograd.grad((model.encode_image(x) * probe).sum(), x)
    step = 1e-5
    with torch.no_grad():
        up, down = ((model.encode_image(x + sign * step * direction) * probe).sum() for sign in (1, -1))
    assert (gradient * direction).sum().item() == pytest.approx((up - down).item() / (2 * step), rel=1e-6)


def test_prediction_keeps_its_graph_unless_the_caller_drops_it(model: StableDiffusion) -> None:
    z = noise(1, 4, 8, 8).requires_grad_()
    output = model.predict(z, torch.tensor([500]), model.encode_text(["a red car"]))
    assert torch.autograd.grad(output.sum(), z)[0].abs().sum() > 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_inside(folder: Path, model: StableDiffusion, precision: str) -> None:
    half = load(folder, precision=precision)
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    found = half.predict(z, t, half.encode_text(["a red car"] * 2))
    expected = model.predict(z, t, model.encode_text(["a red car"] * 2))
    assert found.dtype == torch.float32
    assert half.schedule.alpha.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.05)
    assert half.encode_image(image()).dtype == half.decode_image(z).dtype == torch.float32


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e9])
def test_gradients_of_any_size_pass_through_half_precision(folder: Path, model: StableDiffusion, size: float) -> None:
    """fp16 holds 6e-8 to 65504: without scaling, the smallest would arrive as 0 and the largest as infinity."""
    probe = noise(2, 4, 8, 8, seed=3) * size
    gradients = []
    for which in (load(folder, precision="fp16"), model):
        x = image().requires_grad_()
        (which.encode_image(x) * probe).sum().backward()
        gradients.append(x.grad)
    ratio = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert ratio < 0.02


def test_moving_keeps_precision_and_follows_the_device(folder: Path) -> None:
    model = load(folder, precision="fp32").half()
    assert model.unet.dtype == torch.float32
    assert load(folder, precision="bf16").to("cpu").unet.dtype == torch.bfloat16


def test_a_surrounding_autocast_does_not_reach_in(model: StableDiffusion) -> None:
    z, t, text = noise(1, 4, 8, 8), torch.tensor([300]), model.encode_text(["a red car"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.predict(z, t, text)
    torch.testing.assert_close(inside, model.predict(z, t, text), rtol=0, atol=0)


def test_memory_order_changes_no_prediction(folder: Path, model: StableDiffusion) -> None:
    other = load(folder, channels_last=True).to("cpu")
    assert other.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    z, t, text = noise(2, 4, 8, 8), torch.tensor([100, 700]), model.encode_text(["a red car"] * 2)
    torch.testing.assert_close(other.predict(z, t, text), model.predict(z, t, text), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.encode_image(image()), model.encode_image(image()), rtol=1e-4, atol=1e-5)


def test_pooled_and_cameras_are_not_needed(model: StableDiffusion) -> None:
    embedding = model.encode_text(["a red car"]).embedding
    assert model.predict(noise(1, 4, 8, 8), torch.tensor([1]), Conditioning(embedding)).isfinite().all()


def test_a_text_beyond_the_context_is_refused(model: StableDiffusion) -> None:
    with pytest.raises(PromptError, match=r"has 14 tokens and this model reads 10"):
        model.encode_text(["a red car on a blue cube " + ", a red car on a blue"])


def test_unknown_words_are_named_with_the_known_ones(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "small")
    table = {
        "words": ["a", "on", "view", "front"],
        "kinds": ["car", "cube"],
        "colours": ["red", "blue"],
        "near": {"cube": ["box"]},
    }
    (folder / "vocabulary.json").write_text(json.dumps(table), encoding="utf-8")
    model = load(folder)
    assert len(model.encode_text(["", "A red car, front view", "a blue cube on a red car"])) == 3
    with pytest.raises(PromptError) as caught:
        model.encode_text(["a red unicorn, front view", "a rad box"])
    message = str(caught.value)
    for part in (
        "'unicorn'",
        "'rad' (did you mean 'red'?)",
        "'box' (the nearest is 'cube')",
        "It makes a car, cube in red, blue and other plain colours",
        'dfw run dreamfusion-laptop prompt="..."',
        "or dreamfusion-sd on a GPU",
    ):
        assert part in message
    assert "'front'" not in message


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_auto_is_half_precision_and_close_to_the_cpu(folder: Path, model: StableDiffusion) -> None:
    there = load(folder, precision="auto").to("cuda")
    assert there.unet.dtype == torch.float16
    assert there.schedule.alpha.device.type == "cuda"
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    found = there.predict(z.cuda(), t.cuda(), there.encode_text(["a red car"] * 2))
    torch.testing.assert_close(found.cpu(), model.predict(z, t, model.encode_text(["a red car"] * 2)), rtol=0.1, atol=0.05)
