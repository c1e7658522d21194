"""InstructPix2Pix and IP-Adapter against diffusers' own pipelines on the same tiny weights, and their runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from PIL import Image
from prior_checks import noise, picture, steps_of, two_steps
from tiny_additions import save_lora
from tiny_diffusion import save_tiny_model
from tiny_pictures import save_tiny_instruct, save_tiny_ip_adapter
from tiny_zero123 import save_tiny_zero123
from torch import Tensor

from dfw import Conditioning, ConfigError, GuidanceError, orbit
from dfw.runs.prompt_table import PromptTable
from dfw_guidance.additions import pipeline_of
from dfw_guidance.instruct_pix2pix import InstructPix2Pix
from dfw_guidance.ip_adapter import IPAdapter
from dfw_guidance.zero123 import Zero123
from dfw_prompters.plain import Plain


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of each kind, and a picture of 16x16 random pixels."""
    folder = tmp_path_factory.mktemp("files")
    save_tiny_instruct(folder / "instruct")
    save_tiny_model(folder / "plain")
    save_tiny_ip_adapter(folder / "adapter")
    save_tiny_zero123(folder / "zero123")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(folder / "image.png")
    return folder


def instruct(files: Path, **options: object) -> InstructPix2Pix:
    fields = {"model": str(files / "instruct"), "precision": "fp32", **options}
    return InstructPix2Pix(InstructPix2Pix.Config.model_validate(fields))


def adapted(files: Path, **options: object) -> IPAdapter:
    fields = {"model": str(files / "plain"), "adapter": str(files / "adapter"), "image": str(files / "image.png")}
    return IPAdapter(IPAdapter.Config.model_validate({**fields, "precision": "fp32", **options}))


def watched(files: Path, source: Tensor, negative: str = "") -> list[tuple[Tensor, float, Tensor]]:
    """What the unmodified pipeline predicts in three steps, for the scales 7.5 and 1.4."""
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(str(files / "instruct"), safety_checker=None)
    call = {"image": source, "guidance_scale": 7.5, "image_guidance_scale": 1.4, "negative_prompt": negative}
    return steps_of(pipeline, prompt="a red car", num_inference_steps=3, output_type="latent", **call)


def test_predictions_of_instruct_pix2pix_are_those_inside_the_pipeline(files: Path) -> None:
    model, source = instruct(files, image_guidance_scale=1.4), picture(1)
    text, nothing = (replace(model.encode_text([text]), control=source) for text in ("a red car", ""))
    steps = watched(files, source)
    assert len(steps) == 3
    for output, timestep, sample in steps:
        t = torch.tensor([int(timestep)])
        with torch.no_grad():
            found = model.predict_noise_guided(sample, t, text, nothing, 7.5)
            apart = [model.predict_noise(sample, t, one) for one in (nothing, text)]
        torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(apart[0] + 7.5 * (apart[1] - apart[0]), found, rtol=1e-4, atol=1e-4)


def test_a_source_of_its_own_serves_all_views_that_bring_none(files: Path) -> None:
    pixels = torch.from_numpy(np.array(Image.open(files / "image.png"))).permute(2, 0, 1)[None] / 255
    fixed, given = instruct(files, image=str(files / "image.png")), instruct(files)
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    text = given.encode_text(["a red car"] * 2)
    shown = given.predict(z, t, replace(text, control=pixels.expand(2, -1, -1, -1)))
    torch.testing.assert_close(fixed.predict(z, t, text), shown)
    other = replace(text, control=picture(2, seed=1))
    torch.testing.assert_close(fixed.predict(z, t, other), given.predict(z, t, other))
    assert (fixed.predict(z, t, other) - shown).abs().max() > 1e-4


def test_without_a_source_its_latents_are_zero_and_add_no_guidance(files: Path) -> None:
    model, z, t = instruct(files), noise(2, 4, 8, 8), torch.tensor([100, 700])
    text = model.encode_text(["a red car"] * 2)
    with torch.no_grad():
        expected = model.unet(torch.cat([z, torch.zeros_like(z)], 1), t, encoder_hidden_states=text.embedding).sample
    torch.testing.assert_close(model.predict(z, t, text), expected)


def test_a_source_of_another_size_is_resized(files: Path) -> None:
    model, z, t = instruct(files), noise(1, 4, 8, 8), torch.tensor([300])
    flat = torch.full((1, 3, 16, 16), 0.3)
    text = model.encode_text(["a red car"])
    one, other = (model.predict(z, t, replace(text, control=one)) for one in (flat, torch.full((1, 3, 40, 40), 0.3)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_scales_0_and_1_ask_once(files: Path) -> None:
    model, z, t = instruct(files), noise(1, 4, 8, 8), torch.tensor([300])
    text, nothing = (replace(model.encode_text([text]), control=picture(1)) for text in ("a red car", ""))
    for scale, alone in ((0, nothing), (1, text)):
        torch.testing.assert_close(model.predict_noise_guided(z, t, text, nothing, scale), model.predict_noise(z, t, alone))


def test_predictions_of_ip_adapter_are_those_inside_the_pipeline(files: Path) -> None:
    model = adapted(files, image_scale=0.7)
    pipeline = StableDiffusionPipeline.from_pretrained(str(files / "plain"), safety_checker=None)
    file = "ip-adapter_sd15.safetensors"
    pipeline.load_ip_adapter(
        str(files / "adapter" / "models"), subfolder="", weight_name=file, image_encoder_folder="image_encoder"
    )
    pipeline.set_ip_adapter_scale(0.7)
    call = {"prompt": "a red car", "guidance_scale": 7.5, "num_inference_steps": 3, "output_type": "latent"}
    steps = steps_of(pipeline, ip_adapter_image=Image.open(files / "image.png"), **call)
    text, nothing = model.encode_text(["a red car"]), model.unconditional()
    assert len(steps) == 3
    for output, timestep, sample in steps:
        with torch.no_grad():
            found = model.predict_noise_guided(sample, torch.tensor([int(timestep)]), text, nothing, 7.5)
        torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)


def test_the_picture_counts_as_much_as_its_scale_says(files: Path) -> None:
    """At 0 the plain model answers; another picture is another answer."""
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    off, on = adapted(files, image_scale=0), adapted(files)
    text = off.encode_text(["a red car"] * 2)
    with torch.no_grad():
        plain = StableDiffusionPipeline.from_pretrained(str(files / "plain"), safety_checker=None).unet
        expected = plain(z, t, encoder_hidden_states=text.embedding).sample
    torch.testing.assert_close(off.predict(z, t, text), expected, rtol=1e-4, atol=1e-5)
    assert (on.predict(z, t, text) - expected).abs().max() > 1e-3


def test_texts_see_the_picture_and_the_empty_text_does_not(files: Path) -> None:
    model = adapted(files)
    found = model.encode_text(["a red car", "", "blurry"])
    assert found.extras["picture"].tolist() == [1, 0, 1]
    assert {name for name, _ in model.named_children()} == {"unet", "vae", "text_encoder"}
    facts = model.facts()
    assert facts["adapter"]["weights"].keys() == {"models/image_encoder/model.safetensors", "models/ip-adapter_sd15.safetensors"}
    assert len(facts["image"]["sha256"]) == 64


@pytest.mark.parametrize("kind", ["instruct-pix2pix", "ip-adapter"])
def test_score_distillation_runs_from_yaml(files: Path, tmp_path: Path, kind: str) -> None:
    own = {"model": str(files / "instruct")} if kind == "instruct-pix2pix" else {
        "model": str(files / "plain"), "adapter": str(files / "adapter")
    }  # fmt: skip
    rows = two_steps(tmp_path, {"type": kind, "image": str(files / "image.png"), "precision": "fp32", **own})
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)


def seen_from(files: Path, **options: object) -> Zero123:
    fields = {"model": str(files / "zero123"), "image": str(files / "image.png"), "share": None, "precision": "fp32", **options}
    return Zero123(Zero123.Config.model_validate(fields))


@pytest.mark.parametrize("make", [instruct, adapted, seen_from])
def test_low_rank_weights_are_merged_as_diffusers_adds_them(files: Path, tmp_path: Path, make: Any) -> None:
    plain, other = make(files), make(files)
    parts = dict(plain.named_children())
    save_lora(pipeline_of(make(files).pipeline, dict(make(files).named_children())), tmp_path, seed=1, encoders=())
    pipeline_of(plain.pipeline, parts).load_lora_weights(str(tmp_path))
    merged = make(files, lora=[{"path": str(tmp_path)}])
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 700])
    cameras = orbit(2, 0.0, 3.0, 40.0, 16, 16)
    row = plain.conditional() if make is seen_from else plain.encode_text(["a red car"])
    text = replace(row.mapped(lambda one: one.expand(2, *one.shape[1:])), cameras=cameras)
    with torch.no_grad():
        expected = plain.predict(z, t, text)
        torch.testing.assert_close(merged.predict(z, t, text), expected, rtol=1e-4, atol=1e-5)
        assert (other.predict(z, t, text) - expected).abs().max() > 1e-3


def test_what_cannot_be_used_is_refused_in_one_sentence(files: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "wide.png")
    empty = tmp_path / "adapter"
    shutil.copytree(files / "adapter" / "models" / "image_encoder", empty / "models" / "image_encoder")
    for make, said in (
        (lambda: instruct(files, model="gone/away", image=str(tmp_path / "none.png")), "image: there is no file"),
        (lambda: instruct(files, image=str(tmp_path / "wide.png")), "image: it is 8x4 pixels, and the model reads squares"),
        (lambda: instruct(files, model=str(files / "plain")), "write guidance.type=stable-diffusion"),
        (lambda: adapted(files, model=str(files / "instruct")), "write guidance.type=instruct-pix2pix"),
        (lambda: adapted(files, image=str(tmp_path / "none.png"), model="gone/away"), "image: there is no file"),
        (lambda: adapted(files, adapter=str(empty)), "guidance.adapter_file: "),
        (lambda: adapted(files, adapter=str(files / "plain")), "guidance.adapter: "),
    ):
        with pytest.raises((ConfigError, GuidanceError)) as caught:
            make()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_conditions_of_both_kinds_join_in_batches(files: Path) -> None:
    """A table of texts is cut and joined row by row, with what goes next to the embedding."""
    both = adapted(files).encode_text(["a red car", ""])
    again = Conditioning.cat([both.select(slice(1, 2)), both.select(slice(0, 1))])
    assert again.extras["picture"].tolist() == [0, 1]


def test_a_negative_prompt_does_not_see_the_adapters_picture(files: Path) -> None:
    """As in diffusers' pipeline, which gives that side the picture of nothing whatever its words are."""
    model = adapted(files)
    pipeline = StableDiffusionPipeline.from_pretrained(str(files / "plain"), safety_checker=None)
    file = "ip-adapter_sd15.safetensors"
    pipeline.load_ip_adapter(
        str(files / "adapter" / "models"), subfolder="", weight_name=file, image_encoder_folder="image_encoder"
    )
    pipeline.set_ip_adapter_scale(0.6)
    call = {"prompt": "a red car", "negative_prompt": "a blue cube", "guidance_scale": 7.5, "num_inference_steps": 1}
    ((output, timestep, sample),) = steps_of(
        pipeline, ip_adapter_image=Image.open(files / "image.png"), output_type="latent", **call
    )
    table = PromptTable(model, Plain(Plain.Config()), "a red car", "a blue cube")
    asked = table.batch(orbit(1, 0, 3, 40, 16, 16))
    with torch.no_grad():
        found = model.predict_noise_guided(sample, torch.tensor([int(timestep)]), asked.positive, asked.negative, 7.5)
    torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)
