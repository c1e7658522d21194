"""Distilled Stable Diffusions: a small autoencoder, U-Nets that lack blocks, models that read their guidance scale."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from prior_checks import noise, picture, steps_of, two_steps
from tiny_diffusion import save_tiny_model

from dfw import GuidanceError
from dfw_guidance.aliases import ALIASES, FAMILIES
from dfw_guidance.instruct_pix2pix import InstructPix2Pix
from dfw_guidance.stable_diffusion import StableDiffusion


def small_autoencoder(folder: Path) -> Path:
    """TAESD's class: 16 pixels to 8x8 latents of 4 channels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoencoderTiny(
            encoder_block_out_channels=(4, 4),
            decoder_block_out_channels=(4, 4),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_tiny_model(folder / "plain")
    small_autoencoder(folder / "small")
    return folder


def load(folder: Path, **options: object) -> StableDiffusion:
    return StableDiffusion(StableDiffusion.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


def test_a_small_autoencoder_stands_for_the_vae_and_needs_none_in_the_folder(files: Path, tmp_path: Path) -> None:
    """Its latents are what the U-Net reads, without a scale, as in a pipeline that has it."""
    folder = Path(shutil.copytree(files / "plain", tmp_path / "bare"))
    shutil.rmtree(folder / "vae")
    model, small = load(folder, autoencoder=str(files / "small")), AutoencoderTiny.from_pretrained(files / "small")
    image = picture(2)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(image), small.encode(2 * image - 1).latents)
        z = noise(2, 4, 8, 8)
        torch.testing.assert_close(model.decode_image(z), (small.decode(z).sample / 2 + 0.5).clamp(0, 1))
    assert (model.resolution, model.latent_resolution, model.channels) == (16, 8, 4)
    assert list(model.facts()["autoencoder"]["weights"]) == ["diffusion_pytorch_model.safetensors"]
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(model.encode_image(image).square().sum(), image)
    assert gradient.abs().amax((1, 2, 3)).min() > 0


def test_a_smaller_side_is_smaller_latents_for_the_same_network(files: Path) -> None:
    model = load(files / "plain", resolution=8)
    assert (model.resolution, model.latent_resolution) == (8, 4)
    assert StableDiffusion.side(model.config) == 8
    assert model.encode_image(picture(1, side=8)).shape == (1, 4, 4, 4)
    with pytest.raises(GuidanceError, match="resolution 9 must be a multiple of 2"):
        load(files / "plain", resolution=9)


def test_a_network_without_middle_block_is_read_as_any(files: Path, tmp_path: Path) -> None:
    """BK-SDM Small and Tiny (Kim et al. 2023) have none."""
    folder = Path(shutil.copytree(files / "plain", tmp_path / "bk"))
    settings = UNet2DConditionModel.load_config(str(folder / "unet")) | {"mid_block_type": None}
    unet = UNet2DConditionModel.from_config(settings)
    unet.save_pretrained(str(folder / "unet"))
    model, z, t = load(folder), noise(2, 4, 8, 8), torch.tensor([100, 700])
    text = model.encode_text(["a red car"] * 2)
    assert model.unet.mid_block is None
    with torch.no_grad():
        torch.testing.assert_close(model.predict(z, t, text), unet.eval()(z, t, encoder_hidden_states=text.embedding).sample)
    adapter = model.adapter(2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapter(z, t, text), model.predict(z, t, text))


def test_a_latent_consistency_model_reads_its_guidance_scale_as_in_the_pipeline(files: Path, tmp_path: Path) -> None:
    plain = StableDiffusionPipeline.from_pretrained(str(files / "plain"), safety_checker=None)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = UNet2DConditionModel.from_config({**plain.unet.config, "time_cond_proj_dim": 16})
    scheduler = LCMScheduler.from_config(plain.scheduler.config)
    parts = {**plain.components, "unet": unet, "scheduler": scheduler, "safety_checker": None, "feature_extractor": None}
    pipeline = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipeline.save_pretrained(str(tmp_path / "lcm"))
    model = load(tmp_path / "lcm", embedded_guidance=6.0)
    steps = steps_of(pipeline, prompt="a red car", guidance_scale=6.0, num_inference_steps=3, output_type="latent")
    text = model.encode_text(["a red car"])
    assert len(steps) == 3
    for output, timestep, sample in steps:
        with torch.no_grad():
            found = model.predict_noise(sample, torch.tensor([int(timestep)]), text)
        torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)
    other = load(tmp_path / "lcm", embedded_guidance=1.5)
    assert (other.predict_noise(steps[0][2], torch.tensor([500]), text) - found).abs().max() > 1e-5


def test_score_distillation_runs_from_yaml(files: Path, tmp_path: Path) -> None:
    options = {
        "type": "stable-diffusion",
        "model": str(files / "plain"),
        "autoencoder": str(files / "small"),
        "precision": "fp32",
    }
    rows = two_steps(tmp_path, options)
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)


def test_short_names_of_small_models_are_known() -> None:
    assert {"bk-tiny", "bk-small", "bk-base", "tiny-sd", "small-sd", "sd-turbo", "lcm"} < {*FAMILIES["stable-diffusion"]}
    assert ALIASES["bk-tiny"] == ("nota-ai/bk-sdm-tiny",)
    assert {name for names in FAMILIES.values() for name in names} - {"embedded"} == {*ALIASES}


def test_what_is_no_small_autoencoder_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(GuidanceError, match=r"guidance\.autoencoder: .* is a StableDiffusionPipeline, and this wants a small"):
        load(files / "plain", autoencoder=str(files / "plain"))
    with pytest.raises(
        GuidanceError, match=r"guidance\.autoencoder: .* holds AutoencoderKL, and this guidance reads AutoencoderTiny"
    ):
        load(files / "plain", autoencoder=str(files / "plain" / "vae"))
    wrong = Path(shutil.copytree(files / "small", tmp_path / "wrong"))
    AutoencoderTiny(latent_channels=8, encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4),
                    num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).save_pretrained(wrong)  # fmt: skip
    with pytest.raises(GuidanceError, match="its network reads 4 channels and its VAE makes 8"):
        load(files / "plain", autoencoder=str(wrong))
    with pytest.raises(ValueError, match="did you mean 'taesd'"):
        StableDiffusion.Config(autoencoder="taes")
    with pytest.raises(ValueError, match="autoencoder"):
        InstructPix2Pix.Config(autoencoder="taesd")
    assert json.loads((files / "small" / "config.json").read_text())["_class_name"] == "AutoencoderTiny"
