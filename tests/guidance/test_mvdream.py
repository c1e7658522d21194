"""Views seen together: what mixes and what does not, against attention written out, and against the authors' network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from original_mvdream import MultiViewUNetModel
from tiny_diffusion import save_tiny_model
from tiny_mvdream import save_checkpoint, save_published, save_tiny_mvdream
from torch import Tensor

from dfw import CameraBatch, Conditioning, Guidance, GuidanceError, cameras_at
from dfw_guidance.across_views import AcrossViews, inflate, poses
from dfw_guidance.convert import convert
from dfw_guidance.mvdream import MVDream
from dfw_guidance.stable_diffusion import StableDiffusion


def ring(scenes: int = 1, distance: float = 3.0, turned: float = 0.0) -> CameraBatch:
    """Four orthogonal views of each scene."""
    azimuth = torch.tensor([0.0, 90, 180, -90]).repeat(scenes) + turned
    full = torch.ones_like(azimuth)
    return cameras_at(azimuth, 10 * full, distance * full, 40 * full, 64, 64).in_groups(4)


def asked(guidance: Guidance, cameras: CameraBatch, text: str = "a red cube") -> Conditioning:
    return replace(guidance.encode_text([text] * len(cameras)), cameras=cameras)


def noisy(count: int, side: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))


def times(count: int) -> Tensor:
    return torch.full((count,), 600)


def mvdream(folder: Path, **options: object) -> MVDream:
    return MVDream(MVDream.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_mvdream(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> MVDream:
    return mvdream(folder)


@torch.no_grad()
def test_attention_across_views_is_attention_over_all_their_pixels() -> None:
    """softmax(q k / sqrt(d)) v, with keys and values of all three views of a scene, head by head in float64."""
    layer = Attention(query_dim=8, heads=2, dim_head=4, processor=AcrossViews(3, AttnProcessor2_0())).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    pixels = torch.randn(6, 5, 8, generator=generator, dtype=torch.float64)
    found, (q, k, v) = layer(pixels), (pixels @ part.weight.T for part in (layer.to_q, layer.to_k, layer.to_v))
    for scene in (slice(0, 3), slice(3, 6)):
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            keys, values = k[scene, :, head].reshape(15, 4), v[scene, :, head].reshape(15, 4)
            heads.append((q[scene, :, head] @ keys.T / 2).softmax(-1) @ values)
        expected = torch.cat(heads, -1) @ layer.to_out[0].weight.T + layer.to_out[0].bias
        torch.testing.assert_close(found[scene], expected)


@torch.no_grad()
def test_a_view_answers_for_its_own_scene(model: MVDream) -> None:
    """Other noise in one view moves the other three of its scene, and none of the next scene."""
    z, words = noisy(8), asked(model, ring(2))
    moved = z.clone()
    moved[2] = noisy(1, seed=2)
    apart = (model.predict(z, times(8), words) - model.predict(moved, times(8), words)).abs().amax((1, 2, 3))
    assert apart[:4].min() > 1e-5
    assert apart[4:].max() < 1e-6


@torch.no_grad()
def test_equal_views_are_answered_as_one_picture(folder: Path, model: MVDream) -> None:
    """Four times the same picture, noise and camera: what a view sees of the others is what it sees of itself."""
    camera = ring().select(torch.tensor([1, 1, 1, 1]))
    z, words = noisy(1).expand(4, -1, -1, -1), asked(model, camera)
    alone: Tensor = UNet2DConditionModel.from_pretrained(str(folder / "unet"))(
        z, times(4), encoder_hidden_states=words.embedding, class_labels=poses(camera)
    ).sample
    torch.testing.assert_close(model.predict(z, times(4), words), alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cameras_are_added_to_the_time(folder: Path, model: MVDream) -> None:
    """The pose goes through the network's class embedding; from elsewhere the answer is another, from further away the same."""
    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    inflate(unet, 4)
    z, words = noisy(4), asked(model, ring())
    expected = unet(z, times(4), encoder_hidden_states=words.embedding, class_labels=poses(ring())).sample
    torch.testing.assert_close(model.predict(z, times(4), words), expected)
    assert (model.predict(z, times(4), asked(model, ring(turned=45))) - expected).abs().max() > 1e-4
    torch.testing.assert_close(model.predict(z, times(4), asked(model, ring(distance=6))), expected)


def test_a_pose_is_a_rotation_and_a_direction() -> None:
    """From the front: right is +y, up is +z, back is +x, and so is the place, whatever the distance."""
    full = torch.zeros(1)
    found = poses(cameras_at(full, full, full + 2.5, full + 40, 8, 8))
    expected = [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(found.view(4, 4), torch.tensor(expected).float(), rtol=0, atol=1e-6)


@torch.no_grad()
def agrees(made: MVDream, authors: MultiViewUNetModel) -> None:
    """The guidance predicts what the authors' network does, of the same noisy pictures, words and cameras."""
    z, t, words = noisy(8), torch.tensor([3] * 4 + [700] * 4), asked(made, ring(2))
    theirs = authors(z, t, words.embedding, poses(ring(2)), num_frames=4)
    torch.testing.assert_close(made.predict(z, t, words), theirs, rtol=1e-4, atol=1e-5)
    assert theirs.std() > 0.1


def test_published_folders_are_read_under_the_authors_names(tmp_path: Path) -> None:
    folder, authors = save_published(tmp_path / "published")
    agrees(mvdream(folder), authors)


def test_the_authors_checkpoint_becomes_a_folder(tmp_path: Path) -> None:
    """The base model gives everything but the U-Net's weights, the U-Net's configuration too."""
    base = save_tiny_model(tmp_path / "base")
    config = json.loads((base / "unet" / "config.json").read_text(encoding="utf-8"))
    like = {"block_out_channels": [32, 64], "down_block_types": ["CrossAttnDownBlock2D"] * 2, "attention_head_dim": [2, 4]}
    like |= {"up_block_types": ["CrossAttnUpBlock2D"] * 2, "norm_num_groups": 32, "use_linear_projection": True}
    (base / "unet" / "config.json").write_text(json.dumps({**config, **like}), encoding="utf-8")
    authors = save_checkpoint(tmp_path / "4view.pt")
    convert(tmp_path / "4view.pt", tmp_path / "made", base)
    made = mvdream(tmp_path / "made")
    agrees(made, authors)
    assert made.resolution == 64  # latents of 32, and this base's autoencoder halves pictures once


def test_a_checkpoint_of_another_size_than_its_base_is_refused(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base")
    save_checkpoint(tmp_path / "4view.pt")
    with pytest.raises(GuidanceError, match=r"does not hold a whole MVDream that was made from .*base \("):
        convert(tmp_path / "4view.pt", tmp_path / "made", base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4view.pt", "base", "base-words"]


def test_a_pickle_is_named_with_the_command_that_converts_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "4view.pt")
    with pytest.raises(GuidanceError, match=r"is a pickle.*python -m dfw_guidance\.convert '.*4view\.pt' '.*4view'"):
        mvdream(tmp_path / "4view.pt")


def test_what_cannot_be_used_is_said(folder: Path, model: MVDream, tmp_path: Path) -> None:
    single = save_tiny_model(tmp_path / "single")
    with pytest.raises(GuidanceError, match=r"is a StableDiffusionPipeline; write guidance\.type=stable-diffusion"):
        mvdream(single)
    index = single / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace("StableDiffusion", "MVDream"), encoding="utf-8")
    with pytest.raises(GuidanceError, match=r"reads no poses of cameras \(class_embed_type is None, not projection"):
        mvdream(single)
    with pytest.raises(GuidanceError, match=r"is a MVDreamPipeline; write guidance\.type=mvdream"):
        StableDiffusion(StableDiffusion.Config(model=str(folder)))
    words = asked(model, ring())
    with pytest.raises(GuidanceError, match="3 pictures are not whole scenes of 4 views"):
        model.predict(noisy(3), times(3), words.select(slice(0, 3)))
    with pytest.raises(GuidanceError, match="needs the cameras of the views"):
        model.predict(noisy(4), times(4), replace(words, cameras=None))


def test_a_published_folder_with_a_lost_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, _ = save_published(tmp_path / "published")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors.pop("middle_block.1.proj_in.weight")
    save_file(tensors, file)
    with pytest.raises(GuidanceError, match="unet lacks tensors"):
        mvdream(folder)
