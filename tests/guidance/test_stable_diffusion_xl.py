"""Stable Diffusion XL through the real classes, against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from prior_checks import noise, picture, steps_of, two_steps
from tiny_diffusion import LENGTH
from tiny_sdxl import FIRST, SECOND, save_tiny_sdxl

from dfw import GuidanceError
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sdxl(tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusionXL:
    return load(folder)


def load(folder: Path, **options: Any) -> StableDiffusionXL:
    return StableDiffusionXL(StableDiffusionXL.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


def test_sizes_come_from_the_model_files(model: StableDiffusionXL) -> None:
    assert (model.space, model.channels, model.latent_resolution, model.resolution) == ("latent", 4, 8, 16)
    text = model.encode_text(["a red car", "a blue cube"])
    assert text.embedding.shape == (2, LENGTH, FIRST + SECOND)
    assert text.pooled is not None
    assert text.pooled.shape == (2, SECOND)


@pytest.mark.parametrize("negative", [None, "a blue cube"])
def test_predictions_are_those_inside_the_pipeline(folder: Path, negative: str | None) -> None:
    """Also the pipeline's way with no negative prompt, which is zeros, and every number it is told of size and crop."""
    sizes = {"original_size": (24, 20), "crop": (3, 1), "target_size": (12, 16)}
    model = load(folder, **sizes)
    pipeline = StableDiffusionXLPipeline.from_pretrained(str(folder), add_watermarker=False)
    steps = steps_of(
        pipeline,
        prompt="a red car",
        negative_prompt=negative,
        guidance_scale=5.0,
        num_inference_steps=3,
        output_type="latent",
        original_size=sizes["original_size"],
        crops_coords_top_left=sizes["crop"],
        target_size=sizes["target_size"],
    )
    prompt, without = model.encode_text(["a red car"]), model.encode_text([negative or ""])
    assert len(steps) == 3
    for output, timestep, sample in steps:
        with torch.no_grad():
            found = model.predict_noise_guided(sample, torch.tensor([int(timestep)]), prompt, without, 5.0)
        torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)


def test_by_default_it_is_told_its_own_size_and_no_crop(folder: Path, model: StableDiffusionXL) -> None:
    assert model.time_ids == (16, 16, 0, 0, 16, 16)
    larger = load(folder, resolution=32)
    assert (larger.resolution, larger.latent_resolution, larger.time_ids) == (32, 16, (32, 32, 0, 0, 32, 32))
    assert larger.encode_image(picture(1, side=32)).shape == (1, 4, 16, 16)
    with pytest.raises(GuidanceError, match="resolution 17 must be a multiple of 2"):
        load(folder, resolution=17)


def test_every_source_of_the_prompt_reaches_the_prediction(model: StableDiffusionXL) -> None:
    z, t, text = noise(1, 4, 8, 8), torch.tensor([500]), model.encode_text(["a red car"])
    other = model.encode_text(["a blue cube"])
    plain = model.predict(z, t, text)
    for changed in (type(text)(other.embedding, text.pooled), type(text)(text.embedding, other.pooled)):
        assert (model.predict(z, t, changed) - plain).abs().max() > 1e-4


def test_encoding_is_the_scaled_posterior_mean_and_decoding_its_inverse(model: StableDiffusionXL) -> None:
    moments = model.vae.quant_conv(model.vae.encoder(2 * picture() - 1))
    torch.testing.assert_close(model.encode_image(picture()), moments[:, :4] * 0.13025)
    z = noise(1, 4, 8, 8)
    expected = (model.vae.decoder(model.vae.post_quant_conv(z / 0.13025)) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(model.decode_image(z), expected)


def test_the_vae_stays_in_fp32_where_its_configuration_says_that_fp16_overflows(
    folder: Path, model: StableDiffusionXL, tmp_path: Path
) -> None:
    half = load(folder, precision="fp16")
    assert (half.unet.dtype, half.vae.dtype, half.text_encoder_2.dtype) == (torch.float16, torch.float32, torch.float16)
    assert load(folder, precision="bf16").vae.dtype == torch.bfloat16
    assert load(save_tiny_sdxl(tmp_path / "fixed", force_upcast=False), precision="fp16").vae.dtype == torch.float16
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    found = half.to("cpu").predict(z, t, half.encode_text(["a red car"] * 2))
    assert half.vae.dtype == found.dtype == torch.float32
    torch.testing.assert_close(
        found, load(folder).predict(z, t, load(folder).encode_text(["a red car"] * 2)), rtol=0.1, atol=0.05
    )


def test_gradients_pass_through_the_vae_by_finite_differences(folder: Path) -> None:
    model = load(folder)
    model.vae.double()
    x, direction, probe = picture(1).double().requires_grad_(), noise(1, 3, 16, 16).double(), noise(1, 4, 8, 8, seed=2).double()
    (gradient,) = torch.autograd.grad((model.encode_image(x) * probe).sum(), x)
    with torch.no_grad():
        up, down = ((model.encode_image(x + sign * 1e-5 * direction) * probe).sum() for sign in (1, -1))
    assert (gradient * direction).sum().item() == pytest.approx((up - down).item() / 2e-5, rel=1e-6)


def test_a_folder_that_lacks_the_second_encoder_names_it(tmp_path: Path) -> None:
    folder = save_tiny_sdxl(tmp_path / "half")
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(GuidanceError, match=r"lacks text_encoder_2/model\.safetensors: it is not a complete Stable Diffusion XL"):
        load(folder)


def test_score_distillation_runs_from_yaml(folder: Path, tmp_path: Path) -> None:
    rows = two_steps(tmp_path, {"type": "dreamfw/stable-diffusion-xl", "model": str(folder)})
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)
