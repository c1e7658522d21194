"""Zero-1-to-3 against its networks asked by hand, in the two layouts that are published, and what is said of wrong files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from prior_checks import noise, two_steps
from prior_parts import EMBEDDED
from safetensors.torch import load_file
from tiny_diffusion import save_tiny_model
from tiny_zero123 import WIDTH, save_tiny_zero123
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from dfw import Conditioning, ConfigError, GuidanceError, cameras_at
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.prior.check import check_guidance_at
from dfw.prior.sample import sample
from dfw_guidance.pose_projection import CCProjection
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_guidance.zero123 import Zero123

AZIMUTH, ELEVATION, DISTANCE = 30.0, 10.0, 2.5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both layouts of one model, a picture of 16x16 random pixels, and one of 32x32 red pixels before a transparent 64x64."""
    folder = tmp_path_factory.mktemp("files")
    save_tiny_zero123(folder / "model")
    save_tiny_zero123(folder / "other", other=True)
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)).save(folder / "random.png")
    return folder


def guidance(files: Path, model: str = "model", **options: object) -> Zero123:
    fields = {"model": str(files / model), "image": str(files / "random.png"), "precision": "fp32", "share": None, **options}
    pose = {"azimuth": AZIMUTH, "elevation": ELEVATION, "distance": DISTANCE}
    return Zero123(Zero123.Config.model_validate(pose | fields))


def asked(known: Conditioning, azimuth: list[float], elevation: list[float], distance: list[float]) -> Conditioning:
    """One condition for some cameras, as a run makes it."""
    where = [torch.tensor(values) for values in (azimuth, elevation, distance)]
    cameras = cameras_at(*where, torch.full_like(where[0], 40.0), 64, 64)
    return replace(known.mapped(lambda tensor: tensor.expand(len(azimuth), *tensor.shape[1:])), cameras=cameras)


def by_hand(files: Path, model: str, z: Tensor, t: Tensor, pose: Tensor) -> Tensor:
    """The picture's unscaled latents beside the noisy ones; one token, from the picture's CLIP embedding and the pose."""
    folder = files / model
    pixels = torch.from_numpy(np.array(Image.open(files / "random.png"))).permute(2, 0, 1)[None] / 255
    picture = pixels[:, 3:] * pixels[:, :3] + 1 - pixels[:, 3:]  # over white
    encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    (layer,) = (load_file(path) for path in folder.glob("*projection/*.safetensors"))
    weight, bias = (next(value for name, value in layer.items() if name.endswith(end)) for end in ("weight", "bias"))
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    with torch.no_grad():
        seen = encoder((picture - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)).image_embeds
        token = torch.cat([seen.expand(len(z), -1), pose], 1) @ weight.T + bias
        beside = vae.encode(2 * picture - 1).latent_dist.mean.expand(len(z), -1, -1, -1)
        return unet(torch.cat([z, beside], 1), t, encoder_hidden_states=token[:, None]).sample


@pytest.mark.parametrize("model", ["model", "other"])
def test_it_asks_the_networks_as_zero_1_to_3_does(files: Path, model: str) -> None:
    """A quarter turn to the left, 20 degrees up and half a unit away; then half a turn, 5 degrees down."""
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 800])
    pose = torch.tensor([[-math.radians(20), 1, 0, 0.5], [math.radians(5), 0, -1, 0]])
    made = guidance(files, model)
    found = made.predict(z, t, asked(made.conditional(), [120, 210], [30, 5], [3, 2.5]))
    torch.testing.assert_close(found, by_hand(files, model, z, t, pose), rtol=1e-4, atol=1e-5)


def test_stable_zero123_knows_the_pictures_own_elevation(files: Path, tmp_path: Path) -> None:
    """Its fourth number is the polar angle of the picture's camera, 80 degrees for an elevation of 10."""
    z, t = noise(1, 4, 8, 8), torch.tensor([500])
    pose = torch.tensor([[0, 0, -1, math.radians(80)]])
    expected = by_hand(files, "model", z, t, pose)
    shutil.copytree(files / "model", tmp_path / "my-Stable-Zero123")
    for made in (
        guidance(files, pose="elevation"),
        guidance(files, model=str(tmp_path / "my-Stable-Zero123")),
    ):
        found = made.predict(z, t, asked(made.conditional(), [-150], [10], [3]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    shutil.copytree(files / "model", tmp_path / "stable" / "zero123")  # the name of a folder above says nothing
    for plain in (
        guidance(files, model=str(tmp_path / "my-Stable-Zero123"), pose="distance"),
        guidance(files, model=str(tmp_path / "stable" / "zero123")),
    ):
        assert (plain.predict(z, t, asked(plain.conditional(), [-150], [10], [3])) - expected).abs().max() > 1e-4


def test_a_model_made_as_the_shipped_one_has_its_poses_in_any_folder(files: Path, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED.with_name("embedded_zero123"), tmp_path / "mine")
    made = guidance(files, model=str(tmp_path / "mine"))
    last = made.relative_pose(asked(made.conditional(), [30], [10], [3]).cameras)[0, 3]
    torch.testing.assert_close(last, torch.tensor(math.radians(90 - ELEVATION)))


def test_the_pose_does_not_know_how_often_it_went_around(files: Path) -> None:
    made = guidance(files)
    one, other = (made.relative_pose(asked(made.conditional(), [angle], [0], [3]).cameras) for angle in (-170, 190))
    torch.testing.assert_close(one, other)


def test_no_condition_is_zeros_for_both(files: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(files / "model" / "unet")
    z, t = noise(2, 4, 8, 8), torch.tensor([100, 800])
    with torch.no_grad():
        expected = unet(torch.cat([z, torch.zeros_like(z)], 1), t, encoder_hidden_states=torch.zeros(2, 1, WIDTH)).sample
    made = guidance(files)
    torch.testing.assert_close(made.predict(z, t, asked(made.unconditional(), [120, 210], [30, 5], [3, 2.5])), expected)


def test_latents_are_scaled_for_the_unet_and_back(files: Path) -> None:
    made, vae = guidance(files), AutoencoderKL.from_pretrained(files / "model" / "vae")
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.encode(2 * image - 1).latent_dist.mean * vae.config.scaling_factor
        torch.testing.assert_close(made.encode_image(image), expected, rtol=1e-4, atol=1e-5)


def test_without_cameras_or_with_a_text_it_cannot_answer(files: Path) -> None:
    made = guidance(files)
    with pytest.raises(GuidanceError, match="needs the cameras of the views"):
        made.predict(noise(1, 4, 8, 8), torch.tensor([1]), made.conditional())
    with pytest.raises(GuidanceError, match="zero123 reads no text"):
        made.encode_text(["a car"])


def test_the_image_encoder_is_not_kept(files: Path) -> None:
    made = guidance(files)
    assert {name for name, _ in made.named_children()} == {"unet", "vae", "projection"}
    assert made.embedding.dtype == torch.float32


def test_the_manifest_knows_the_picture(files: Path) -> None:
    facts = guidance(files).facts()
    assert facts["image"]["path"] == str(files / "random.png")
    assert len(facts["image"]["sha256"]) == 64
    assert len(facts["weights"]) == 4


def yaml(files: Path, folder: Path) -> Path:
    """A run of no prompt, whose picture is named once."""
    text = {
        "image": str(files / "image.png"),
        "geometry": {"type": "image", "width": 16, "height": 16},
        "renderer": "plane",
        "guidance": {"type": "zero123", "model": str(files / "model"), "image": "${image}", "precision": "fp32"},
        "losses": {"sds": {"guidance_scale": 3}},
        "cameras": {"width": 16, "batch_size": 2},
        "device": "cpu",
    }
    (folder / "run.yaml").write_text(json.dumps(text), encoding="utf-8")
    return folder / "run.yaml"


def test_a_sheet_of_samples_shows_views_and_the_check_has_its_gradient(files: Path, tmp_path: Path) -> None:
    composition = compose(load_config(yaml(files, tmp_path)))
    path = sample(composition, 3, 2, 3.0, tmp_path)
    assert path.name == "image-seed0-steps2-scale3.png"
    assert Image.open(path).size[0] >= 3 * 16
    found = check_guidance_at(composition, None, 3.0, 2, 4)
    assert all(probe.mean > 0 for probe in found.probes)


def test_score_distillation_runs_without_a_prompt(files: Path, tmp_path: Path) -> None:
    options = {"type": "zero123", "model": str(files / "model"), "image": str(files / "image.png"), "precision": "fp32"}
    rows = two_steps(tmp_path, options, prompt="", losses={"sds": {"type": "sds", "guidance_scale": 3}})
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)


def test_a_picture_that_does_not_serve_is_refused_before_a_model_is_looked_for(files: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "opaque.png")
    with pytest.raises(ConfigError, match=r"image: .*opaque\.png shows no background"):
        guidance(files, model="gone/away", image=str(tmp_path / "opaque.png"), share=0.8)
    with pytest.raises(ConfigError, match=r"image: there is no file .*none\.png"):
        guidance(files, model="gone/away", image=str(tmp_path / "none.png"))
    Image.new("RGB", (64, 32)).save(tmp_path / "wide.png")
    with pytest.raises(ConfigError, match=r"image: it is 64x32 pixels, and the model reads squares; crop it, or write share"):
        guidance(files, image=str(tmp_path / "wide.png"), share=None)


def mixed(folder: Path) -> str:
    CCProjection(32, 32).save_pretrained(folder / "cc_projection")
    return r"its cc_projection maps 32 numbers to 32, where image_encoder and pose give 8 \+ 4 and the U-Net reads 8"


def without_pose(folder: Path) -> str:
    shutil.rmtree(folder / "cc_projection")
    return r"lacks cc_projection/config\.json, cc_projection/diffusion_pytorch_model\.safetensors"


def another_unet(folder: Path) -> str:
    plain = save_tiny_model(folder.with_name("plain"))
    shutil.copytree(plain / "unet", folder / "unet", dirs_exist_ok=True)
    return r"its U-Net reads 4 channels and predicts 4, and one that sees a picture reads twice as many"


@pytest.mark.parametrize("spoil", [mixed, without_pose, another_unet])
def test_a_wrong_model_is_refused_with_its_reason(files: Path, tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    folder = Path(shutil.copytree(files / "model", tmp_path / "wrong"))
    with pytest.raises(GuidanceError, match=spoil(folder)) as caught:
        guidance(files, model=str(folder))
    assert "\n" not in str(caught.value)


def test_models_of_other_kinds_name_their_guidance(files: Path, tmp_path: Path) -> None:
    plain = save_tiny_model(tmp_path / "plain")
    with pytest.raises(GuidanceError, match=r"write guidance\.type=stable-diffusion"):
        guidance(files, model=str(plain))
    with pytest.raises(GuidanceError, match=r"write guidance\.type=zero123"):
        StableDiffusion(StableDiffusion.Config(model=str(files / "other")))
