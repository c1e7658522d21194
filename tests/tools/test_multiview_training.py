"""The multi-view prior's training in miniature: its scenes, its start, its loss, and a model that the guidance loads."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prior_parts import EMBEDDED

from dfw_guidance.mvdream import MVDream

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches bfloat16 off: a processor that has it would round."""
    import multiview

    monkeypatch.setattr(multiview, "fast_autocast", contextlib.nullcontext)


@pytest.fixture(scope="module")
def ring_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small round of rings."""
    import rounds

    out = tmp_path_factory.mktemp("rings")
    rounds.main(["--out", str(out / "rounds"), "--rounds", "1", "--views", "4", "--stack-views", "4", "--rings"])
    return out


def test_a_ring_has_four_orthogonal_views() -> None:
    from cameras import random_rings

    drawn = random_rings(800, torch.Generator().manual_seed(0))
    rings = {name: values.view(200, 4) for name, values in drawn.items()}
    turns = (rings["azimuth"] - rings["azimuth"][:, :1]) % 360
    torch.testing.assert_close(turns, torch.tensor([0.0, 90, 180, 270]).expand(200, 4), rtol=0, atol=1e-3)
    assert all((rings[name] == rings[name][:, :1]).all() for name in ("elevation", "fovy", "distance"))
    elevation = rings["elevation"][:, 0]
    assert float((elevation < -12).float().mean()) == pytest.approx(0.2, abs=0.06)
    assert -50 <= elevation.min() <= elevation.max() <= 90


def test_the_views_of_a_scene_share_all_but_the_camera(ring_world: Path) -> None:
    """One form, colour and background; the words differ by the view's side alone."""
    from data import World

    world = World(ring_world / "rounds", together=4)
    world.only(("chair",))
    batch = world.draw(12, torch.Generator().manual_seed(3))
    assert batch.images.shape == (48, 3, 64, 64)
    assert (batch.form.view(12, 4) == batch.form.view(12, 4)[:, :1]).all()
    assert (batch.colour.view(12, 4) == batch.colour.view(12, 4)[:, :1]).all()
    edge = batch.images[:, :, 0].reshape(12, 4, -1)  # the topmost row shows nothing but background
    torch.testing.assert_close(edge, edge[:, :1].expand(-1, 4, -1))
    told = [{one.first.partition(",")[0] for one in batch.words[4 * scene : 4 * scene + 4]} for scene in range(12)]
    assert all(len(bodies) == 1 for bodies in told)
    sides = [{one.first for one in batch.words[4 * scene : 4 * scene + 4] if "view" in one.first} for scene in range(12)]
    assert max(map(len, sides)) == 4
    quiet = World(ring_world / "rounds", together=4, silent=0.9).draw(12, torch.Generator().manual_seed(3))
    assert not any("view" in one.first for one in quiet.words)


def test_a_lamp_at_the_camera_lights_the_views_of_a_scene() -> None:
    """A wall turned by 0 and 60 degrees from the lamp, and one turned away."""
    import compose

    eye = torch.tensor([[3.0, 0, 0]]).expand(3, 3)
    normal = torch.tensor([[1.0, 0, 0], [0.5, 0, 0.75**0.5], [-1, 0, 0]])[..., None, None]
    found = compose.headlight(normal, 0 * normal, eye).flatten()
    torch.testing.assert_close(found, torch.tensor([1.0, 0.7, 0.4]))


def test_scenes_have_one_light_and_single_pictures_a_drawn_one_or_none(ring_world: Path) -> None:
    import compose
    from data import World

    world = World(ring_world / "rounds", together=4)
    cameras = {name: world.data[name][:400] for name in ("azimuth", "elevation", "fovy", "distance")}
    buffers, white = world.data["buffers"][:400], torch.ones(len(cameras["azimuth"]), 3)

    def seen(together: int, seed: int) -> torch.Tensor:
        return compose.lit(buffers, cameras, white, white, torch.Generator().manual_seed(seed), together)[0]

    assert torch.equal(seen(4, 0), seen(4, 1))
    same = (seen(1, 0) == seen(1, 1)).flatten(1).all(1).float().mean()
    assert float(same) == pytest.approx(compose.FLAT**2, abs=0.06)  # both times without a light


def test_a_model_of_scenes_starts_as_it_is() -> None:
    """Its embedding of the cameras stays, which a model of single pictures gets anew."""
    import multiview
    from diffusers import UNet2DConditionModel

    folder = EMBEDDED.with_name("embedded_mvdream")
    expected = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32).state_dict()
    torch.testing.assert_close(multiview.build(folder).state_dict(), expected, atol=0, rtol=0)


def test_it_starts_with_the_answers_of_the_shipped_model() -> None:
    """For any camera, as long as attention stays within each picture."""
    import multiview
    from diffusers import UNet2DConditionModel

    unet, shipped = multiview.build(), UNet2DConditionModel.from_pretrained(str(EMBEDDED / "unet"), torch_dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    z, words = torch.randn(4, 4, 16, 16, generator=generator), torch.randn(4, 16, 128, generator=generator)
    cameras, t = multiview.seen_from(torch.tensor([[0.0, 10], [90, 10], [180, 10], [270, 10]])), torch.full((4,), 600)
    with torch.no_grad():
        expected = shipped(z, t, encoder_hidden_states=words).sample
        multiview.inflate(unet, 1)
        torch.testing.assert_close(unet(z, t, encoder_hidden_states=words, class_labels=cameras).sample, expected)
        multiview.inflate(unet, 4)
        assert (unet(z, t, encoder_hidden_states=words, class_labels=cameras).sample - expected).abs().max() > 0.01
        with multiview.pictures(unet):
            torch.testing.assert_close(unet(z, t, encoder_hidden_states=words).sample, expected)


def test_the_comparison_of_cameras_is_a_hinge(ring_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss beyond the squared error: the weight times what is missing to the margin, over scenes without view words."""
    import multiview
    import unet
    from diffusers import DDIMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer

    monkeypatch.setattr(multiview, "SINGLES", 0.0)
    levels = DDIMScheduler.from_pretrained(str(EMBEDDED / "scheduler"))
    words = CLIPTokenizer.from_pretrained(str(EMBEDDED / "tokenizer"))
    text = CLIPTextModel.from_pretrained(str(EMBEDDED / "text_encoder"), torch_dtype=torch.float32)
    network = multiview.build()
    drawn_weights = torch.Generator().manual_seed(4)
    for parameter in network.class_embedding.parameters():  # its first layer would come from the global stream
        torch.nn.init.normal_(parameter, std=2.0, generator=drawn_weights)
    multiview.inflate(network, 4)
    state = unet.State.fresh(network, text, unet.UnetPlan())
    captions = ["a chair"] * 4 + ["a chair, front view"] * 4 + [""] * 4 + ["a car"] * 4
    tokens = unet.tokenize(words, captions)
    tokens[5] = unet.tokenize(words, ["a chair, left side view"])[0]
    encoded = unet.Encoded(tokens, tokens, torch.zeros(16))
    form = torch.tensor([multiview.FORMS.index(multiview.Single(kind)) for kind in ("chair", "chair", "chair", "car")])
    angles = torch.stack((torch.arange(16) * 90.0 + 30, torch.full((16,), 10.0)), 1)
    latents = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    drawn = unet.Drawn(latents, encoded, encoded, torch.zeros(16), form.repeat_interleave(4), angles, torch.zeros(16))
    assert multiview.compared(drawn).tolist() == [True, False, False, True]

    def found(contrast: float, margin: float = 0.03) -> float:
        return float(multiview.scene_loss(state, drawn, levels, torch.Generator().manual_seed(2), contrast, margin).detach())

    monkeypatch.setattr(multiview, "MIRRORED", 0.0)
    turned = replace(drawn, angles=angles + torch.tensor([180.0, 0.0]))
    wrong, right = (_scene_error(multiview, state, one, levels) for one in (turned, drawn))
    plain = found(0.0)
    assert plain == pytest.approx(sum(right) / 4, rel=1e-5)
    for margin in (0.5, 0.0, -1.0):  # the first scene has too little noise to be compared
        expected = plain + 2.0 * max(0.0, margin + right[3] - wrong[3]) / 4
        assert found(2.0, margin) == pytest.approx(expected, rel=1e-5)
    assert abs(right[3] - wrong[3]) > 1e-3


def _scene_error(multiview, state, drawn, levels) -> list[float]:
    """Each scene's squared error under the noise and the timesteps that `scene_loss` draws."""
    generator = torch.Generator().manual_seed(2)
    torch.rand((), generator=generator)
    times = ((torch.arange(4) + torch.rand(4, generator=generator)) / 4 * 1000).long().repeat_interleave(4)
    noise = torch.randn(drawn.latents.shape, generator=generator)
    noisy, target = levels.add_noise(drawn.latents, noise, times), levels.get_velocity(drawn.latents, noise, times)
    cameras = multiview.seen_from(drawn.angles)
    with torch.no_grad():
        words = drawn.words.states(state.text)
        guess = state.unet(noisy, times, encoder_hidden_states=words, class_labels=cameras).sample
    return (guess - target).square().mean((1, 2, 3)).view(4, 4).mean(1).tolist()


def test_two_steps_give_a_model_that_the_guidance_loads(ring_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on takes up its step; steps with single pictures leave the poses' network as it is."""
    import multiview

    monkeypatch.setattr(multiview, "SINGLES", 1.0)
    small = ["--out", str(ring_world), "--rounds", "0", "--batch", "4", "--pool", "8"]
    multiview.main([*small, "--steps", "1"])
    record = torch.load(ring_world / "checkpoint.pt", weights_only=True)
    assert record["step"] == 1
    assert not record["live"]["0.class_embedding.linear_2.weight"].any()
    monkeypatch.setattr(multiview, "SINGLES", 0.0)
    multiview.main([*small, "--steps", "2", "--resume"])
    record = torch.load(ring_world / "checkpoint.pt", weights_only=True)
    assert record["step"] == 2
    assert record["live"]["0.class_embedding.linear_2.weight"].any()
    made = MVDream(MVDream.Config(model=str(ring_world / "model")))
    assert made.encode_text(["a red car, front view"]).embedding.shape == (1, 16, 128)
    assert "_name_or_path" not in (ring_world / "model" / "unet" / "config.json").read_text(encoding="utf-8")
