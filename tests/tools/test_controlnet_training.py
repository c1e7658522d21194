"""The control network's training in miniature: what it sees, its start, its loss, and a network that the guidance loads."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from prior_parts import EMBEDDED
from transformers import CLIPTextModel

from dfw_geometry.shapes import Single, Stack
from dfw_guidance.controlnet import ControlNet

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches bfloat16 off: a processor that has it would round."""
    import controlnet

    monkeypatch.setattr(controlnet, "fast_autocast", contextlib.nullcontext)


@pytest.fixture(scope="module")
def few_things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one round of two views of a chair, and of a cube on a cylinder."""
    import rounds

    out = tmp_path_factory.mktemp("things")
    pieces = []
    for form in (Single("chair"), Stack("cube", "cylinder")):
        cameras = {
            "azimuth": torch.tensor([30.0, 250.0]),
            "elevation": torch.tensor([10.0, 40.0]),
            "fovy": torch.full((2,), 40.0),
            "distance": torch.full((2,), 3.0),
        }
        pieces.append({"buffers": rounds.render(form, cameras), "form": torch.full((2,), rounds.FORMS.index(form)), **cameras})
    (out / "rounds").mkdir()
    together = {name: torch.cat([piece[name] for piece in pieces]).contiguous() for name in pieces[0]}
    rounds.save_file(together, str(out / "rounds" / "round_00.safetensors"))
    return out


def test_it_sees_disparity_as_a_guidance_draws_it() -> None:
    """A wall three units away whose right half is 3.5 away, open on top, half covered in the last row: 1, 6/7, 0, and halves."""
    import controlnet

    half = torch.tan(torch.deg2rad(torch.tensor(20.0)))
    place = ((torch.arange(64) + 0.5) / 32 - 1) * half
    along = (1 + place[:, None] ** 2 + place[None, :] ** 2).sqrt() * torch.where(torch.arange(64) < 32, 3.0, 3.5)
    cover = torch.ones(64, 64)
    cover[:8], cover[-1] = 0.0, 0.5
    buffers = torch.zeros(1, 10, 64, 64)
    buffers[0, 5], buffers[0, 9] = cover, cover * (along - 2) / 2
    cameras = {name: torch.tensor([value]) for name, value in (("azimuth", 70.0), ("elevation", 25.0), ("distance", 3.0))}
    found = controlnet.depths((buffers * 255).round().byte(), {**cameras, "fovy": torch.tensor([40.0])})
    expected = torch.where(torch.arange(64) < 32, 1.0, 6 / 7) * cover
    torch.testing.assert_close(found, expected.expand(1, 3, 64, 64), rtol=0, atol=0.008)  # a depth has 256 values over two units


def test_some_pictures_are_blurred_over_four_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    import controlnet

    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2).float().expand(200, 3, 16, 16)
    found = controlnet.roughened(board, torch.Generator().manual_seed(0))
    flat = (found == 0.5).all(3).all(2).all(1)
    assert int(flat.sum()) == pytest.approx(200 * controlnet.ROUGH, abs=18)
    assert torch.equal(found[~flat], board[~flat])


def test_it_starts_with_the_answers_of_the_shipped_model() -> None:
    """Its residuals are zero for any picture, and become others through the closing convolutions alone."""
    import controlnet

    network = controlnet.build()
    unet = UNet2DConditionModel.from_pretrained(str(EMBEDDED / "unet"), torch_dtype=torch.float32)
    for part in ("conv_in", "time_embedding", "down_blocks"):
        torch.testing.assert_close(getattr(network, part).state_dict(), getattr(unet, part).state_dict())
    torch.testing.assert_close(network.mid_block.resnets[0].state_dict(), unet.mid_block.resnets[0].state_dict())
    generator = torch.Generator().manual_seed(0)
    z, words = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 16, 128, generator=generator)
    picture = torch.rand(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        down, middle = network(z, torch.tensor([300, 800]), words, picture, return_dict=False)
        assert [one.abs().max() for one in (*down, middle)] == [0] * 7
        for closing in (*network.controlnet_down_blocks, network.controlnet_mid_block):
            torch.nn.init.eye_(closing.weight.squeeze(3).squeeze(2))
        down, _ = network(z, torch.tensor([300, 800]), words, picture, return_dict=False)
        torch.testing.assert_close(down[0], unet.conv_in(z))  # the picture's features end in zeros too


def test_the_loss_is_the_frozen_models_and_moves_the_network_alone(few_things: Path) -> None:
    """It is the mean squared error under the noise that it draws. A step along its gradient lowers it."""
    import controlnet
    import unet as training

    world = controlnet.World(few_things / "rounds")
    model = UNet2DConditionModel.from_pretrained(str(EMBEDDED / "unet"), torch_dtype=torch.float32)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    text = CLIPTextModel.from_pretrained(str(EMBEDDED / "text_encoder"), torch_dtype=torch.float32).requires_grad_(False)
    state = training.State.fresh(controlnet.build(), text, training.UnetPlan())
    levels = DDIMScheduler.from_pretrained(str(EMBEDDED / "scheduler"))
    loss = controlnet.ControlLoss(model, world)
    latents = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    tokens = torch.full((4, 16), 5)
    said = training.Encoded(tokens, tokens, torch.zeros(4))
    drawn = training.Drawn(latents, said, said, torch.zeros(4), torch.zeros(4), torch.zeros(4, 2), torch.arange(4))

    def found() -> torch.Tensor:
        return loss(state, drawn, levels, torch.Generator().manual_seed(2), 4.0, 0.03)

    noisy, target, times = training.noised(latents, levels, torch.Generator().manual_seed(2))
    with torch.no_grad():
        guess = model(noisy, times, encoder_hidden_states=said.states(text)).sample
    first = found()
    assert float(first.detach()) == pytest.approx(float((guess - target).square().mean()), rel=1e-5)
    first.backward()
    with torch.no_grad():
        for parameter in state.unet.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.05 * parameter.grad)
    assert found() < first
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_two_steps_give_a_network_that_the_guidance_loads(few_things: Path) -> None:
    """A training that goes on takes up its step. What it writes works with the shipped model."""
    import controlnet

    small = ["--out", str(few_things), "--rounds", "0", "--batch", "4", "--pool", "8"]
    with torch.random.fork_rng():
        controlnet.main([*small, "--steps", "1"])
        assert torch.load(few_things / "checkpoint.pt", weights_only=True)["step"] == 1
        controlnet.main([*small, "--steps", "2", "--resume"])
    record = torch.load(few_things / "checkpoint.pt", weights_only=True)
    assert record["step"] == 2
    assert record["live"]["0.controlnet_mid_block.weight"].any()
    made = ControlNet(ControlNet.Config(model="embedded", controlnet=str(few_things / "model")))
    assert made.control_files.folder == few_things / "model"
    assert "_name_or_path" not in (few_things / "model" / "config.json").read_text(encoding="utf-8")


@torch.no_grad()
def test_the_shipped_one_reads_the_depth() -> None:
    """It lowers the shipped prior's error on pictures of true things under much noise. Another thing's depth raises it."""
    from evaluate_control import conditions
    from portraits import Portrait

    kinds = ("chair", "car", "mug", "duck", "rocket", "table")
    asked = [Portrait(kind, "red", 50.0 * row, 15.0) for row, kind in enumerate(kinds)]
    generator, model = torch.Generator().manual_seed(3), ControlNet(ControlNet.Config(model="embedded", precision="fp32"))
    layers = torch.cat([one.shown(one.own, 64, generator) for one in asked])
    clean = model.encode_image(layers[:, :3] + (1 - layers[:, 3:]) * 0.9)
    noise, time = torch.randn(clean.shape, generator=generator), torch.full((6,), 800)
    noisy, text = model.add_noise(clean, noise, time), model.encode_text([f"a red {kind}" for kind in kinds])
    shown = conditions(asked)
    without, right, wrong = (
        float((model.predict_noise(noisy, time, replace(text, control=control)) - noise).square().mean())
        for control in (None, shown, shown.roll(1, 0))
    )
    assert right < 0.9 * without < 0.9 * wrong


def test_inside_is_the_error_where_the_shape_is() -> None:
    """A shape of colour 0.5 on the left half, drawn as 0.6: 20 dB, whatever is on the right and whatever its coverage is."""
    import evaluate_control

    truth = torch.zeros(1, 4, 8, 8)
    truth[:, 3, :, :4] = 0.8
    truth[:, :3, :, :4] = 0.8 * 0.5
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[..., :4] = 0.6
    assert float(evaluate_control.inside(images, truth)) == pytest.approx(20.0, abs=1e-3)
