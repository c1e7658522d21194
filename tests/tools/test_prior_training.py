"""The prior's training in miniature: its loss, its stages, what it starts from; and the model that ships."""

from __future__ import annotations

import contextlib
from pathlib import Path

import captions
import pytest
import torch
from data import Words, World
from diffusers import UNet2DConditionModel
from prior_parts import EMBEDDED
from transformers import CLIPTextModel, CLIPTokenizer

from dfw_geometry.shapes import KINDS


def test_the_comparison_of_captions_is_a_hinge(small_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss beyond the squared error: the weight times what is missing to the margin, over the rows that are compared."""
    import unet
    from model import build_scheduler, build_text, build_tokenizer, build_unet

    monkeypatch.setattr(unet, "fast_autocast", contextlib.nullcontext)  # a processor with bfloat16 would round
    torch.manual_seed(3)
    tokenizer, levels = build_tokenizer(small_world / "words"), build_scheduler()
    state = unet.State.fresh(build_unet((16, 16, 16)), build_text(tokenizer), unet.UnetPlan())
    latents = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    tokens = unet.tokenize(tokenizer, ["a chair, left side view"] * 8)
    compared = torch.tensor([True, False] * 4)

    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(latents.shape, generator=generator)
    times = ((torch.arange(8) + torch.rand(8, generator=generator)) / 8 * 1000).long()
    noisy, target = levels.add_noise(latents, noise, times), levels.get_velocity(latents, noise, times)
    other = unet.tokenize(tokenizer, ["a chair, right side view"] * 8)
    with torch.no_grad():
        right, wrong = (
            (state.unet(noisy, times, state.text(words).last_hidden_state).sample - target).square().mean((1, 2, 3))
            for words in (tokens, other)
        )
    for contrast, margin in ((0.0, 0.5), (4.0, 0.5), (4.0, 0.0), (4.0, -1e-4)):
        expected = float(right.mean())
        for row in range(8):
            if row % 2 == 0 and int(times[row]) > 350:
                expected += contrast * max(0.0, margin + float(right[row] - wrong[row])) / 8
        said = (unet.Encoded(each, each, torch.zeros(8)) for each in (tokens, other))
        drawn = unet.Drawn(latents, *said, compared, torch.zeros(8), torch.zeros(8, 2), torch.zeros(8))
        found = unet.step_loss(state, drawn, levels, torch.Generator().manual_seed(2), contrast, margin)
        assert float(found.detach()) == pytest.approx(expected, rel=1e-6)
    assert float((right - wrong).abs().max()) > 1e-5


def test_views_between_two_sectors_have_mixed_encodings(small_world: Path) -> None:
    import unet
    from model import build_text, build_tokenizer

    tokenizer = build_tokenizer(small_world / "words")
    torch.manual_seed(4)
    text = build_text(tokenizer).eval()
    words = [Words("a car", "a car"), Words("a car, front view", "a car, back view", 0.25), Words("a cake", "an apple", 0.5)]
    with torch.no_grad():
        found = unet.Encoded.of(tokenizer, words).states(text)
        for row, one in enumerate(words):
            first, second = text(unet.tokenize(tokenizer, [one.first, one.second])).last_hidden_state
            torch.testing.assert_close(found[row], (1 - one.share) * first + one.share * second)


def test_a_training_that_goes_on_keeps_the_words_it_knew(small_world: Path) -> None:
    import unet
    from model import build_text, build_tokenizer, build_unet

    tokenizer = build_tokenizer(small_world / "words")
    state = unet.State.fresh(build_unet(), build_text(tokenizer), unet.UnetPlan())
    state.start_from(EMBEDDED, tokenizer)
    old, known = (
        CLIPTextModel.from_pretrained(str(EMBEDDED / "text_encoder")),
        CLIPTokenizer.from_pretrained(str(EMBEDDED / "tokenizer")),
    )
    unet_given = UNet2DConditionModel.from_pretrained(str(EMBEDDED / "unet")).parameters()
    assert all(
        torch.equal(a, c.float()) and torch.equal(b, c.float())
        for a, b, c in zip(state.unet.parameters(), state.slow[0].parameters(), unet_given, strict=True)
    )
    for text in (state.text, state.slow[1]):
        table = text.get_input_embeddings().weight
        for word in ("chair", "red", "view", "left"):
            given = old.get_input_embeddings().weight[known(word)["input_ids"][1]].float()
            assert torch.equal(table[tokenizer(word)["input_ids"][1]], given)


def test_two_steps_give_a_model_that_diffusers_loads(small_world: Path) -> None:
    import evaluate
    import train

    small = ["--rounds", "0", "--vae-steps", "2", "--sharpen-steps", "1", "--steps", "2", "--batch", "4", "--pool", "8"]
    train.main(["--out", str(small_world), *small])
    pipeline = evaluate.load(small_world / "model")
    assert pipeline.safety_checker is None
    images = evaluate.sample(pipeline, ["a red car, front left view"], steps=2, scale=5.0, seed=0)
    assert images.shape == (1, 3, 64, 64)
    lengths = {word: len(pipeline.tokenizer(word)["input_ids"]) for word in captions.vocabulary()}
    assert set(lengths.values()) == {3}


@pytest.mark.parametrize(("more", "restricted"), [([], [("chair",)]), (["--start", str(EMBEDDED)], [])])
def test_kinds_come_one_after_another_only_in_a_training_from_nothing(small_world, tmp_path, monkeypatch, more, restricted):
    import train

    asked: list[tuple[str, ...]] = []
    plain = World.only
    monkeypatch.setattr(World, "only", lambda self, kinds: (asked.append(kinds), plain(self, kinds))[1])
    (tmp_path / "rounds").symlink_to(small_world / "rounds")
    small = ["--rounds", "0", "--vae-steps", "1", "--sharpen-steps", "1", "--steps", "1", "--batch", "2", "--pool", "4"]
    train.main(["--out", str(tmp_path), *small, *more])
    assert [kinds for kinds in asked if kinds] == restricted


def test_the_judge_knows_views_it_was_not_trained_on(small_world: Path) -> None:
    from dfw_scorers.judge.network import Judge

    batch = World(small_world / "rounds", everything=True).draw(256, torch.Generator().manual_seed(8))
    verdict = Judge.load()(batch.images)
    single = batch.form < len(KINDS)
    assert float((verdict.kind.argmax(1) == batch.form)[single].float().mean()) > 0.8
    assert float((verdict.colour.argmax(1) == batch.colour)[single].float().mean()) > 0.8


def test_the_shipped_model_draws_what_it_is_told_and_lists_its_words() -> None:
    import json

    import evaluate

    from dfw_scorers.judge.network import Judge

    assert json.loads((EMBEDDED / "vocabulary.json").read_text(encoding="utf-8")) == captions.describe()
    assert sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) <= 16 * 2**20
    asked = [
        ("purple", "ball"),
        ("green", "cylinder"),
        ("red", "mushroom"),
        ("blue", "bottle"),
        ("orange", "lamp"),
        ("yellow", "duck"),
    ]
    images = evaluate.sample(evaluate.load(EMBEDDED), [f"a {c} {k}" for c, k in asked], steps=12, scale=5.0, seed=2)
    judge = Judge.load()
    right = [judge.accuracy(images[i : i + 1], kind, colour) for i, (colour, kind) in enumerate(asked)]
    assert sum(bool(kind) for kind, _ in right) >= 4
    assert sum(bool(colour) for _, colour in right) >= 4
