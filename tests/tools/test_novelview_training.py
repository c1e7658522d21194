"""The novel-view prior's training in miniature: pairs, framing, start and loss, and a model that the guidance loads."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from prior_parts import EMBEDDED

from dfw_guidance.zero123 import Zero123

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches bfloat16 off: a processor that has it would round."""
    import novelview

    monkeypatch.setattr(novelview, "fast_autocast", contextlib.nullcontext)


@pytest.fixture(scope="module")
def view_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small round: two solids that are alike from all sides, a cube and a car, and no stacks."""
    import rounds

    out = tmp_path_factory.mktemp("views")
    wanted = [form for form in rounds.FORMS if getattr(form, "kind", "") in ("cube", "car")]
    pieces = []
    for form in wanted:
        cameras = {
            "azimuth": torch.tensor([0.0, 90.0, 180.0, 270.0]),
            "elevation": torch.tensor([10.0, 20.0, 75.0, -30.0]),
            "fovy": torch.full((4,), 40.0),
            "distance": torch.full((4,), 3.0),
        }
        record = {"buffers": rounds.render(form, cameras), "form": torch.full((4,), rounds.FORMS.index(form)), **cameras}
        pieces.append(record)
    (out / "rounds").mkdir()
    together = {name: torch.cat([piece[name] for piece in pieces]).contiguous() for name in pieces[0]}
    rounds.save_file(together, str(out / "rounds" / "round_00.safetensors"))
    return out


def pairs(folder: Path, targets: int = 2):
    """The world's pairs of cubes and cars alone, in which a stack is never drawn."""
    from data import World
    from pairs import Pairs

    world = World(folder / "rounds")
    world.only(("cube", "car"))
    return Pairs(world, targets)


def test_a_square_is_cut_out_around_the_object() -> None:
    """A block of 16x8 of 64 pixels, with its middle at (40, 20): two fifths of the side is a magnification of 1.6."""
    import pairs

    block = torch.zeros(1, 1, 64, 64)
    block[0, 0, 16:24, 32:48] = 1
    zoom, centre = pairs.framed(block, torch.tensor([0.4]))
    torch.testing.assert_close(zoom, torch.tensor([1.6]))
    torch.testing.assert_close(centre, torch.tensor([[40 / 32 - 1, 20 / 32 - 1]]))
    cut = pairs.moved(block, zoom, centre)[0, 0] > 0.5
    assert int(cut.sum()) == pytest.approx(16 * 8 * 1.6**2, rel=0.1)
    rows, columns = (cut.any(axis).nonzero().squeeze(1) for axis in (1, 0))
    assert (int(rows[0]) + int(rows[-1]), int(columns[0]) + int(columns[-1])) == (63, 63)


def test_the_middle_of_a_picture_is_followed_into_other_views() -> None:
    """Seen from behind, right is left. Seen from above with the same azimuth, up goes away from the horizontal axis."""
    from pairs import seen_centre

    centre, own = torch.tensor([[0.3, -0.2]]).expand(3, -1), torch.tensor([[20.0, 0.0]]).expand(3, -1)
    angles = torch.tensor([[20.0, 0.0], [200.0, 0.0], [20.0, 90.0]])
    expected = torch.tensor([[0.3, -0.2], [-0.3, -0.2], [0.3, 0.0]])
    torch.testing.assert_close(seen_centre(centre, own, angles), expected, rtol=0, atol=1e-6)


def test_the_views_of_a_scene_show_one_thing(view_world: Path) -> None:
    """Pictures are from heights at which things are photographed, and the other views from all. Backgrounds are shared."""
    scenes = pairs(view_world).draw(40, torch.Generator().manual_seed(0))
    assert scenes.shown.shape == (40, 3, 64, 64)
    assert scenes.images.shape == (80, 3, 64, 64)
    assert set(scenes.own[:, 1].tolist()) == {10.0, 20.0}
    assert set(scenes.angles[:, 1].tolist()) == {-30.0, 10.0, 20.0, 75.0}
    corner = scenes.images[:, :, 0, 0].view(40, 2, 3)
    torch.testing.assert_close(corner, scenes.shown[:, None, :, 0, 0].expand(-1, 2, -1))
    colours = {(int(form), int(first)) for form, (first, _) in zip(scenes.form, scenes.colours, strict=True)}
    assert {form for form, _ in colours} == {0, 20}
    assert len(colours) > 8


def test_pictures_fill_the_share_that_a_guidance_gives_them(view_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pairs as module

    for name, value in {"SHARES": (0.6, 0.6), "AS_IT_IS": 0.0, "DEGRADED": 0.0, "ZOOMS": (0.1, 9.0)}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "plain_backgrounds", lambda count, generator: torch.full((count, 3, 1, 1), 3.0))
    shown = pairs(view_world).draw(12, torch.Generator().manual_seed(1)).shown
    covered = shown.amin(1, keepdim=True) < 0.99  # the background of 3 is clamped to 1, and a half of it is so too
    _, centre = module.framed(covered.float(), torch.full((12,), 0.6))
    zoom, _ = module.framed(covered.float(), torch.full((12,), 0.6))
    torch.testing.assert_close(zoom, torch.ones(12), rtol=0.06, atol=0)
    assert centre.abs().max() <= 1 / 32


def test_a_photograph_differs_but_shows_the_same(view_world: Path) -> None:
    from pairs import degraded

    images = torch.full((16, 3, 64, 64), 0.2)
    images[:, 0, 16:48, 16:48] = 0.8
    found = degraded(images, torch.Generator().manual_seed(2))
    assert 0 <= found.min() <= found.max() <= 1
    away = (found - images).abs().mean((1, 2, 3))
    assert (away > 0.004).all()
    assert (away < 0.2).all()
    inside, outside = found[:, 0, 24:40, 24:40].mean((1, 2)), found[:, 0, :8].mean((1, 2))
    assert (inside > outside + 0.3).all()


def test_it_starts_with_the_answers_of_the_shipped_model() -> None:
    import novelview
    from diffusers import UNet2DConditionModel

    unet, shipped = novelview.build(), UNet2DConditionModel.from_pretrained(str(EMBEDDED / "unet"), torch_dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    z, picture = torch.randn(2, 3, 4, 16, 16, generator=generator)
    words, t = torch.randn(3, 16, 128, generator=generator), torch.tensor([20, 500, 900])
    with torch.no_grad():
        expected = shipped(z, t, encoder_hidden_states=words).sample
        torch.testing.assert_close(unet(torch.cat((z, picture), 1), t, encoder_hidden_states=words).sample, expected)


def test_the_loss_knows_the_picture_unless_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pictures neither they nor the poses matter."""
    import novelview
    import unet
    from diffusers import DDIMScheduler

    levels = DDIMScheduler.from_pretrained(str(EMBEDDED / "scheduler"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        eyes, network = novelview.Eyes(128), novelview.build()
        torch.nn.init.normal_(network.conv_in.weight, std=0.05)
        for layer in (eyes.image_encoder.visual_projection, eyes.cc_projection.first, eyes.cc_projection.last):
            torch.nn.init.normal_(layer.weight, std=0.3)  # as new ones they hardly change the tokens
    state = unet.State.fresh(network.eval(), eyes.eval(), unet.UnetPlan())
    generator = torch.Generator().manual_seed(1)
    cube, car = 0, 20
    drawn = novelview.Seen(
        shown=torch.rand(2, 3, 64, 64, generator=generator),
        beside=torch.randn(2, 4, 16, 16, generator=generator),
        latents=torch.randn(4, 4, 16, 16, generator=generator),
        own=torch.tensor([[0.0, 10.0], [40.0, 20.0]]),
        angles=torch.tensor([[90.0, 10.0], [200.0, 0.0], [100.0, 30.0], [-60.0, 5.0]]),
        form=torch.tensor([cube, car]),
        colours=torch.zeros(2, 2, dtype=torch.long),
    )
    turned = replace(drawn, angles=drawn.angles + torch.tensor([180.0, 0.0]))

    def found(batch: novelview.Seen) -> float:
        with torch.no_grad():
            return float(novelview.view_loss(state, batch, levels, torch.Generator().manual_seed(5), 0.0, 0.0))

    monkeypatch.setattr(novelview, "WITHOUT", 1.0)
    other = replace(turned, shown=1 - drawn.shown, beside=-drawn.beside)
    assert found(other) == pytest.approx(found(drawn), rel=1e-6)
    monkeypatch.setattr(novelview, "WITHOUT", 0.0)
    for changed in (turned, replace(drawn, shown=1 - drawn.shown), replace(drawn, beside=-drawn.beside)):
        assert abs(found(changed) - found(drawn)) > 1e-3


def test_the_captions_of_the_views_say_what_a_picture_can_tell() -> None:
    """A car's view is named by its azimuth, between two sectors by both. A cube's is counted from the picture."""
    import novelview
    from transformers import CLIPTokenizer

    words = CLIPTokenizer.from_pretrained(str(EMBEDDED / "tokenizer"))
    nothing = torch.zeros(2, 1)
    drawn = novelview.Seen(
        shown=nothing,
        beside=nothing,
        latents=nothing,
        own=torch.tensor([[100.0, 10.0], [40.0, 20.0]]),
        angles=torch.tensor([[190.0, 5.0], [100.0, 70.0], [180.0, 30.0], [9.0, 0.0]]),
        form=torch.tensor([0, 20]),
        colours=torch.tensor([[0, 0], [2, 0]]),
    )
    said = novelview.said(drawn, words)
    first, second = ([words.decode(row, skip_special_tokens=True) for row in rows] for rows in (said.first, said.second))
    assert first == [
        "a red cube , left side view , low angle",
        "a red cube , front view , overhead angle",
        "a blue car , back view , medium angle",
        "a blue car , front view , low angle",
    ]
    assert second[3] == "a blue car , front left view , low angle"
    torch.testing.assert_close(said.share, torch.tensor([0.0, 0.0, 0.0, 0.2]))


def test_the_words_read_the_products_of_which_an_angle_is_made() -> None:
    """With the second layer's gelu in its linear part, the first one can give the sine of a sum of angles."""
    from dfw_guidance.pose_projection import WordsProjection

    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = WordsProjection(in_channel=6, out_channel=2, tokens=3, hidden=8)
    own, around = torch.tensor([0.3, 2.0]), torch.tensor([1.1, -2.5])
    embedding = torch.stack((own.sin(), own.cos()), 1)
    pose = torch.stack((torch.tensor([0.1, 0.2]), around.sin(), around.cos(), torch.tensor([1.3, 1.4])), 1)
    for layer in (made.first, made.second, made.last):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        made.first.weight[0, 7], made.first.weight[0, 8] = 1.0, 1.0  # own cosine times sine, and own sine times cosine
        for layer, bias in ((made.first, 50.0), (made.second, 0.0)):
            layer.bias[0] = bias  # gelu leaves large numbers as they are
        made.second.weight[0, 0], made.last.weight[5, 0] = 1.0, 1.0
        found = made(torch.cat((embedding, pose), 1)[:, None])
    assert found.shape == (2, 3, 2)
    torch.testing.assert_close(found[:, 2, 1] - 50.0, (own + around).sin(), rtol=0, atol=1e-4)
    assert not found[:, :2].any()


def test_two_steps_give_a_model_that_the_guidance_loads(
    view_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on takes up its step and does not begin with the eyes again."""
    import novelview

    monkeypatch.setattr(novelview, "Pairs", lambda world, targets: pairs(view_world, targets))
    monkeypatch.setattr(novelview, "LOOKS", 8)
    small = ["--out", str(view_world), "--rounds", "0", "--batch", "4", "--pool", "8", "--look", "1"]
    with torch.random.fork_rng():
        novelview.main([*small, "--steps", "1"])
        record = torch.load(view_world / "checkpoint.pt", weights_only=True)
        assert record["step"] == 1
        monkeypatch.setattr(novelview, "look", None)
        novelview.main([*small, "--steps", "2", "--resume"])
    assert torch.load(view_world / "checkpoint.pt", weights_only=True)["step"] == 2
    picture = Image.new("RGBA", (64, 64))
    picture.paste((255, 0, 0, 255), (16, 16, 48, 48))
    picture.save(tmp_path / "red.png")
    made = Zero123(Zero123.Config(model=str(view_world / "model"), image=str(tmp_path / "red.png"), pose="elevation"))
    assert made.embedding.shape == (1, 1, 128)
    assert (made.resolution, made.latent_resolution, made.prediction_type) == (64, 16, "v_prediction")
    assert "_name_or_path" not in (view_world / "model" / "unet" / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_true_shape_is_placed_where_its_picture_shows_it(share: float) -> None:
    """Its points, seen by the picture's camera, take the share of the view and have their middle in its middle."""
    from cameras import eye_frame
    from portraits import DISTANCE, FOVY, Portrait, Single

    portrait = Portrait("teapot", "red", 30.0, 20.0)
    axis = torch.linspace(-1.2, 1.2, 72)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    points = grid[Single("teapot").distance(portrait.placed(grid, share)) < 0]
    eye, frame = eye_frame(*portrait.own.T, torch.tensor([DISTANCE]))
    local = (points - eye) @ frame[0]
    seen = local[:, :2] / -local[:, 2:] / torch.tan(torch.deg2rad(torch.tensor(FOVY / 2)))
    low, high = seen.amin(0), seen.amax(0)
    assert float((high - low).max()) / 2 == pytest.approx(share, rel=0.08)
    assert ((low + high) / 2).abs().max() < 0.05
    layers = portrait.truth(portrait.own, share, torch.Generator().manual_seed(0))
    rows = (layers[0, 3] > 0.5).any(0).nonzero()
    assert (int(rows[-1]) - int(rows[0]) + 1) / 64 == pytest.approx(share, abs=0.04)
