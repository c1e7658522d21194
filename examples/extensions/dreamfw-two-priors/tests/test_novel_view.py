"""The novel-view guidance against its networks asked by hand, and what is said of files that do not serve."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from dreamfw_two_priors.novel_view import CCProjection, NovelView
from dreamfw_two_priors.random_model import make
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from dfw import Conditioning, GuidanceError, cameras_at

AZIMUTH, ELEVATION, DISTANCE = 30.0, 10.0, 2.5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of random weights and a picture, red below half transparency."""
    folder = tmp_path_factory.mktemp("files")
    make(folder / "model")
    Image.new("RGBA", (64, 64), (255, 0, 0, 128)).save(folder / "image.png")
    return folder


def guidance(files: Path, **options: object) -> NovelView:
    fields = {"model": str(files / "model"), "image": str(files / "image.png"), **options}
    pose = {"azimuth": AZIMUTH, "elevation": ELEVATION, "distance": DISTANCE}
    return NovelView(NovelView.Config.model_validate(pose | fields))


def asked(known: Conditioning, azimuth: list[float], elevation: list[float], distance: list[float]) -> Conditioning:
    """One condition for some cameras, as a run makes it."""
    where = [torch.tensor(values) for values in (azimuth, elevation, distance)]
    cameras = cameras_at(*where, torch.full_like(where[0], 40.0), 64, 64)
    return replace(known.mapped(lambda tensor: tensor.expand(len(azimuth), *tensor.shape[1:])), cameras=cameras)


def noisy(count: int) -> Tensor:
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_pose_is_relative_to_the_picture(files: Path) -> None:
    """A quarter turn to the left, 20 degrees up and half a unit away; then the picture's own place."""
    found = guidance(files).relative_pose(asked(Conditioning(torch.zeros(1, 1, 1)), [120, 30], [30, 10], [3, 2.5]).cameras)
    expected = [[-math.radians(20), 1, 0, 0.5], [0, 0, 1, 0]]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


def test_the_pose_does_not_know_how_often_it_went_around(files: Path) -> None:
    made = guidance(files)
    one, other = (made.relative_pose(asked(made.conditional(), [angle], [0], [3]).cameras) for angle in (-170, 190))
    torch.testing.assert_close(one, other)


def test_it_asks_the_networks_as_zero_1_to_3_does(files: Path) -> None:
    """The picture's unscaled latents beside the noisy ones; one token, from the picture's CLIP embedding and the pose."""
    half = 128 / 255
    picture = torch.tensor([1.0, 1 - half, 1 - half]).view(1, 3, 1, 1).expand(1, 3, 64, 64)  # red over white
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    encoder = CLIPVisionModelWithProjection.from_pretrained(files / "model" / "image_encoder")
    vae = AutoencoderKL.from_pretrained(files / "model" / "vae")
    unet = UNet2DConditionModel.from_pretrained(files / "model" / "unet")
    weights = load_file(files / "model" / "cc_projection" / "diffusion_pytorch_model.safetensors")
    z, t = noisy(2), torch.tensor([100, 800])
    with torch.no_grad():
        seen = encoder(((picture - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))[..., :32, :32]).image_embeds
        pose = torch.tensor([[-math.radians(20), 1, 0, 0.5], [math.radians(5), 0, -1, 0]])
        token = torch.cat([seen.expand(2, -1), pose], 1) @ weights["projection.weight"].T + weights["projection.bias"]
        beside = vae.encode(2 * picture - 1).latent_dist.mean.expand(2, -1, -1, -1)
        expected = unet(torch.cat([z, beside], 1), t, encoder_hidden_states=token[:, None]).sample
        made = guidance(files)
        found = made.predict(z, t, asked(made.conditional(), [120, 210], [30, 5], [3, 2.5]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_no_condition_is_zeros_for_both(files: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(files / "model" / "unet")
    z, t = noisy(2), torch.tensor([100, 800])
    with torch.no_grad():
        expected = unet(torch.cat([z, torch.zeros_like(z)], 1), t, encoder_hidden_states=torch.zeros(2, 1, 32)).sample
        made = guidance(files)
        found = made.predict(z, t, asked(made.unconditional(), [120, 210], [30, 5], [3, 2.5]))
    torch.testing.assert_close(found, expected)


def test_another_view_has_another_answer(files: Path) -> None:
    """The same noise, seen from four sides: the cameras reach the network."""
    made, z = guidance(files), noisy(1).expand(4, -1, -1, -1)
    with torch.no_grad():
        found = made.predict(z, torch.full((4,), 500), asked(made.conditional(), [0, 90, 180, -90], [10] * 4, [2.5] * 4))
    apart = (found[:, None] - found[None]).flatten(2).abs().amax(2)
    assert apart[~torch.eye(4, dtype=torch.bool)].min() > 1e-4


def test_the_same_seed_makes_the_same_model(files: Path, tmp_path: Path) -> None:
    """And leaves the global random state alone."""
    before = torch.random.get_rng_state()
    make(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), before)
    one, other = (
        load_file(where / "unet" / "diffusion_pytorch_model.safetensors") for where in (files / "model", tmp_path / "again")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_cameras_it_cannot_answer(files: Path) -> None:
    made = guidance(files)
    with pytest.raises(GuidanceError, match="needs the cameras of the views"):
        made.predict(noisy(1), torch.tensor([1]), made.conditional())


def test_what_cannot_be_used_is_said_with_its_file(files: Path, tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("no picture")
    narrow = shutil.copytree(files / "model", tmp_path / "narrow")
    CCProjection(32, 32).save_pretrained(narrow / "cc_projection")
    broken = shutil.copytree(files / "model", tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    for options, told in (
        ({"model": str(tmp_path)}, r"lacks unet, vae, image_encoder, cc_projection, scheduler; .*random_model --out"),
        ({"image": str(tmp_path / "wide.png")}, r"wide\.png is 3x2; crop it to a square"),
        ({"image": str(tmp_path / "text.png")}, r"text\.png cannot be read as a picture"),
        ({"image": str(tmp_path / "none.png")}, r"none\.png cannot be read as a picture"),
        ({"model": str(narrow)}, r"narrow does not load: cc_projection maps 32 numbers to 32; .* 32 \+ 4"),
        ({"model": str(broken)}, r"broken does not load: "),
    ):
        with pytest.raises(GuidanceError, match=told):
            guidance(files, **options)
