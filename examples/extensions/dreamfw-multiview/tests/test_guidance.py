"""Views seen together: what mixes and what does not, against attention written out and networks asked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from dreamfw_multiview.attention import AcrossViews, inflate
from dreamfw_multiview.guidance import Inflated, MultiView, poses, small_network
from torch import Tensor

import dfw
from dfw import CameraBatch, Conditioning, Guidance, GuidanceError, cameras_at

EXACT = {"prior": {"type": "dreamfw/stable-diffusion", "precision": "fp32"}}
"""By default a CPU may compute in bf16, which is too coarse for finite differences."""


def ring(scenes: int = 1, distance: float = 3.0, turned: float = 0.0) -> CameraBatch:
    """Four orthogonal views of each scene."""
    azimuth = torch.tensor([0.0, 90, 180, -90]).repeat(scenes) + turned
    full = torch.ones_like(azimuth)
    return cameras_at(azimuth, 10 * full, distance * full, 40 * full, 64, 64).in_groups(4)


def asked(guidance: Guidance, cameras: CameraBatch, text: str = "a red cube") -> Conditioning:
    return replace(guidance.encode_text([text] * len(cameras)), cameras=cameras)


def noisy(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def multiview() -> MultiView:
    return MultiView(MultiView.Config.model_validate(EXACT))


@pytest.fixture(scope="module")
def inflated() -> Inflated:
    return Inflated(Inflated.Config.model_validate(EXACT))


@torch.no_grad()
def test_attention_across_views_is_attention_over_all_their_pixels() -> None:
    """softmax(q k / sqrt(d)) v, with keys and values of all three views of a scene, head by head in float64."""
    layer = Attention(query_dim=8, heads=2, dim_head=4, processor=AcrossViews(3)).double()
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
def test_scenes_of_one_view_are_the_prior_itself(inflated: Inflated) -> None:
    """No weight changes: with the views apart again, the answers are those of the prior that ships with dfw."""
    prior = dfw.build("guidance", "dreamfw/stable-diffusion", precision="fp32")
    assert isinstance(prior, Guidance)
    made = Inflated(Inflated.Config.model_validate(EXACT))
    inflate(next(part for part in made.modules() if isinstance(part, UNet2DConditionModel)), 1)
    z, t, words = noisy(4), torch.full((4,), 600), asked(prior, ring())
    torch.testing.assert_close(made.predict(z, t, words), prior.predict(z, t, words))
    assert (inflated.predict(z, t, words) - prior.predict(z, t, words)).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("kind", ["multiview", "inflated"])
def test_a_view_answers_for_its_own_scene(kind: str, request: pytest.FixtureRequest) -> None:
    """Other noise in one view moves the other three of its scene, and none of the next scene."""
    guidance: Inflated = request.getfixturevalue(kind)
    z, t, words = noisy(8), torch.full((8,), 600), asked(guidance, ring(2))
    moved = z.clone()
    moved[2] = noisy(1, seed=2)
    apart = (guidance.predict(z, t, words) - guidance.predict(moved, t, words)).abs().amax((1, 2, 3))
    assert apart[:4].min() > 1e-5
    assert apart[4:].max() < 1e-5


@torch.no_grad()
def test_equal_views_are_answered_equally(inflated: Inflated) -> None:
    """Four times the same picture, noise and words: what a view sees of the others is what it sees of itself."""
    z, t, words = noisy(1).expand(4, -1, -1, -1), torch.full((4,), 600), asked(inflated, ring())
    prior = dfw.build("guidance", "dreamfw/stable-diffusion", precision="fp32")
    assert isinstance(prior, Guidance)
    torch.testing.assert_close(inflated.predict(z, t, words), prior.predict(z, t, words), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cameras_are_added_to_the_time(multiview: MultiView) -> None:
    """The pose goes through the network's class embedding; from elsewhere the answer is another, from further away the same."""
    z, t = noisy(4), torch.full((4,), 600)
    unet = small_network(next(part for part in multiview.prior.modules() if isinstance(part, UNet2DConditionModel)))
    inflate(unet, 4)
    words = asked(multiview, ring())
    expected = unet(z, t, encoder_hidden_states=words.embedding, class_labels=poses(ring())).sample
    torch.testing.assert_close(multiview.predict(z, t, words), expected)
    assert (multiview.predict(z, t, asked(multiview, ring(turned=45))) - expected).abs().max() > 1e-4
    torch.testing.assert_close(multiview.predict(z, t, asked(multiview, ring(distance=6))), expected)


def test_a_pose_is_a_rotation_and_a_direction() -> None:
    """From the front: right is +y, up is +z, back is +x, and so is the place, whatever the distance."""
    full = torch.zeros(1)
    found = poses(cameras_at(full, full, full + 2.5, full + 40, 8, 8))
    expected = [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(found.view(4, 4), torch.tensor(expected).float(), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_network_comes_back_from_its_folder(multiview: MultiView, tmp_path: Path) -> None:
    other = small_network(multiview.unet, seed=1)
    other.save_pretrained(tmp_path / "unet")
    made = MultiView(MultiView.Config(unet=str(tmp_path / "unet")))
    z, t, words = noisy(4), torch.full((4,), 600), asked(multiview, ring())
    inflate(other, 4)
    torch.testing.assert_close(
        made.predict(z, t, words), other(z, t, encoder_hidden_states=words.embedding, class_labels=poses(ring())).sample
    )


def test_what_cannot_be_used_is_said(multiview: MultiView, tmp_path: Path) -> None:
    next(part for part in multiview.prior.modules() if isinstance(part, UNet2DConditionModel)).save_pretrained(
        tmp_path / "single"
    )
    for options, told in (
        ({"unet": str(tmp_path / "none")}, r"unet: .*none does not load"),
        ({"unet": str(tmp_path / "single")}, r"single does not fit .* class_embed_type is None, not projection"),
        ({"prior": {"type": "dreamfw/gaussian", "means": {"a": [0, 0, 0]}}}, r"prior: dreamfw/gaussian has no text or no U-Net"),
    ):
        with pytest.raises(GuidanceError, match=told):
            MultiView(MultiView.Config.model_validate(options))
    words = asked(multiview, ring())
    with pytest.raises(GuidanceError, match="3 pictures are not whole scenes of 4 views"):
        multiview.predict(noisy(3), torch.zeros(3, dtype=torch.long), words.select(slice(0, 3)))
    with pytest.raises(GuidanceError, match="needs the cameras of the views"):
        multiview.predict(noisy(4), torch.zeros(4, dtype=torch.long), replace(words, cameras=None))
