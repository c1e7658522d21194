"""Texts of a run as a guidance reads them: encoded once, and looked up by view."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from counting_prior import Counting, cameras, row_of

from dfw import Prompter
from dfw.runs.prompt_table import PromptTable
from dfw_prompters.directional import Directional
from dfw_prompters.plain import Plain

EIGHT = ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right")


def directional(**options: object) -> Directional:
    return Directional(Directional.Config.model_validate(options))


def table_of(
    prompter: Prompter, guidance: Counting, negative: str = "", shared: Sequence[str] = (), by_view: Sequence[str] = ()
) -> PromptTable:
    return PromptTable(guidance, prompter, "a car", negative, shared, by_view)


@pytest.mark.parametrize("mode", ["discrete", "interpolated"])
def test_embeddings_follow_the_height(mode: str) -> None:
    prompts = table_of(directional(sectors=8, angles=4, mode=mode), Counting())
    found = prompts.batch(cameras([90, 90, 90, 90], [0, 20, 50, 80])).positive.embedding[:, 0]
    words = [f"a car, left side view, {height} angle" for height in ("low", "medium", "high", "overhead")]
    torch.testing.assert_close(found, torch.stack([row_of(text) for text in words]))


@pytest.mark.parametrize(
    ("prompter", "asked"), [(directional(sectors=4), 5), (directional(sectors=8), 10), (Plain(Plain.Config()), 2)]
)
def test_each_distinct_text_is_encoded_once(prompter: Prompter, asked: int) -> None:
    guidance = Counting()
    prompts = table_of(prompter, guidance)
    for _ in range(3):
        prompts.batch(cameras([0, 90, 180], 10))
    assert len(guidance.asked) == len(set(guidance.asked)) == asked
    assert guidance.calls == 1


def test_each_view_gets_its_own_words_and_all_the_same_negative() -> None:
    guidance = Counting(pooled=True)
    prompts = table_of(directional(sectors=8), guidance, "ugly")
    seen = cameras([0, 90, 200, 0], [0, 10, 20, 70])
    batch = prompts.batch(seen)
    expected = torch.stack([row_of(f"a car, {view} view") for view in ("front", "left side", "back", "overhead")])
    torch.testing.assert_close(batch.positive.embedding, expected[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(batch.positive.pooled, expected)
    torch.testing.assert_close(batch.negative.embedding, row_of("ugly").expand(4, 3, 5))
    assert batch.positive.cameras is seen


def test_interpolation_mixes_the_two_nearest_azimuths() -> None:
    prompts = table_of(directional(sectors=8, mode="interpolated"), Counting(pooled=True))
    found = prompts.batch(cameras([45, 54, 351, 54], [0, 0, 0, 80])).positive
    front, left, side, right = (row_of(f"a car, {EIGHT[i]} view") for i in (0, 1, 2, 7))
    expected = torch.stack([left, 0.8 * left + 0.2 * side, 0.2 * right + 0.8 * front, row_of("a car, overhead view")])
    torch.testing.assert_close(found.embedding[:, 0], expected)
    torch.testing.assert_close(found.pooled, expected)


def test_interpolation_of_four_sectors_passes_both_sides() -> None:
    prompts = table_of(directional(sectors=4, mode="interpolated"), Counting())
    found = prompts.batch(cameras([-45, 45, 135], 0)).positive.embedding[:, 0]
    front, side, back = (row_of(f"a car, {view} view") for view in ("front", "side", "back"))
    torch.testing.assert_close(found, torch.stack([(front + side) / 2, (front + side) / 2, (side + back) / 2]))


def test_without_views_every_camera_gets_the_prompt() -> None:
    prompts = table_of(Plain(Plain.Config()), Counting())
    found = prompts.batch(cameras([0, 90, 180], [0, 80, -80])).positive.embedding
    torch.testing.assert_close(found, row_of("a car").expand(3, 3, 5))


def test_perp_neg_stays_at_the_height_of_the_view() -> None:
    prompter = directional(sectors=8, angles=4, mode="interpolated", perp_neg=1)
    batch = table_of(prompter, Counting()).batch(cameras([45, 45, 45], [0, 50, 80]))
    assert batch.negative_weights is not None
    for row, height in enumerate(("low", "high")):
        for column, word in enumerate(("front", "left side")):
            found = batch.negatives[column].embedding[row, 0]
            torch.testing.assert_close(found, row_of(f"a car, {word} view, {height} angle"))
    assert (batch.negative_weights[:2] > 0).all()
    assert batch.negative_weights[2].tolist() == [0, 0]


def test_what_losses_ask_for_follows_the_views_where_it_names_the_prompt() -> None:
    guidance = Counting()
    texts = ["", "{prompt}, sharp", "ugly", ""]
    batch = table_of(directional(sectors=8), guidance, "ugly", texts).batch(cameras([0, 90], [0, 80]))
    assert set(batch.texts) == {"", "{prompt}, sharp", "ugly"}
    assert len(guidance.asked) == len(set(guidance.asked)) == 9 + 9 + 2
    torch.testing.assert_close(batch.texts[""].embedding[:, 0], row_of("").expand(2, 5))
    torch.testing.assert_close(batch.texts["ugly"].embedding, batch.negative.embedding)
    sharp = torch.stack([row_of(f"a car, sharp, {view} view") for view in ("front", "overhead")])
    torch.testing.assert_close(batch.texts["{prompt}, sharp"].embedding[:, 0], sharp)


def test_they_are_interpolated_as_the_prompt_is() -> None:
    prompter = directional(sectors=8, mode="interpolated")
    batch = table_of(prompter, Counting(), shared=["{prompt}, sharp"]).batch(cameras([54], 0))
    left, side = (row_of(f"a car, sharp, {word} view") for word in ("front left", "left side"))
    torch.testing.assert_close(batch.texts["{prompt}, sharp"].embedding[0, 0], 0.8 * left + 0.2 * side)


def test_without_perp_neg_there_is_nothing_to_push_from() -> None:
    batch = table_of(directional(sectors=8), Counting()).batch(cameras([0, 90], 0))
    assert (batch.negatives, batch.negative_weights) == ((), None)


def test_a_source_prompt_is_written_for_each_view_and_may_name_the_prompt() -> None:
    """Texts by view get each view's words whether they name the prompt or not; shared ones only where they name it."""
    by_view = ["a boat", "{prompt} of clay"]
    batch = table_of(directional(sectors=8), Counting(), shared=["a house"], by_view=by_view).batch(cameras([0, 90], 0))
    assert set(batch.texts) == {"a house", *by_view}
    for text, written in (("a boat", "a boat"), ("{prompt} of clay", "a car of clay")):
        expected = torch.stack([row_of(f"{written}, {view} view") for view in ("front", "left side")])
        torch.testing.assert_close(batch.texts[text].embedding[:, 0], expected)
    torch.testing.assert_close(batch.texts["a house"].embedding[:, 0], row_of("a house").expand(2, 5))
