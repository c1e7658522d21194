"""View words at exact boundaries, and embeddings that are encoded once and looked up by view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from dfw.config.camera_settings import ViewSettings
from dfw.runs.prompts import ViewPrompts, perp_neg_views, view_index, view_mix, view_texts, view_words
from pydantic import ValidationError
from torch import Tensor

from dfw import CameraBatch, Conditioning
from dfw.interfaces.poses import orbit
from dfw_guidance.gaussian import Gaussian

EIGHT = ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right")


class Counting(Gaussian):
    """The Gaussian guidance, with embeddings that are told apart by text, and a record of what it was asked."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__(Gaussian.Config(means={"x": (0, 0, 0)}))
        self.asked: list[str] = []
        self.with_pooled = pooled

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        self.asked += texts
        rows = torch.stack([row_of(text) for text in texts])
        return Conditioning(rows[:, None].expand(-1, 3, -1), rows if self.with_pooled else None)


def row_of(text: str) -> Tensor:
    """A vector that only this text has."""
    return torch.rand(5, generator=torch.Generator().manual_seed(sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**32))


def settings(**options: object) -> ViewSettings:
    return ViewSettings.model_validate(options)


def words_at(azimuth: Sequence[float], elevation: float, views: ViewSettings) -> list[str]:
    az = torch.tensor(azimuth)
    return [view_words(views)[i] for i in view_index(az, torch.full_like(az, elevation), views).tolist()]


def cameras(azimuth: Sequence[float], elevation: Sequence[float] | float) -> CameraBatch:
    az = torch.tensor(azimuth)
    el = torch.as_tensor(elevation).expand(len(az)).clone()
    base = orbit(len(az), 0, 3, 40, 8, 8)
    return CameraBatch(base.camera_to_world, base.fov_y, az, el, base.distance, 8, 8)


def test_four_sectors_and_their_boundaries() -> None:
    views = settings(sectors=4)
    below, at = [-45.01, 44.99, 134.99, -135.01, 224.99], [-45.0, 45.0, 135.0, -135.0, 225.0]
    assert words_at(below, 0, views) == ["side", "front", "side", "back", "back"]
    assert words_at(at, 0, views) == ["front", "side", "back", "side", "side"]
    assert words_at([0, 90, 180, -90, -180, 360, 450], 0, views) == ["front", "side", "back", "side", "back", "front", "side"]


def test_front_may_be_narrower() -> None:
    views = settings(sectors=4, front=60)
    assert words_at([-30, 29.9, 30, 149.9, 150, 209.9, 210], 0, views) == [
        "front",
        "front",
        "side",
        "side",
        "back",
        "back",
        "side",
    ]


def test_eight_sectors_go_counter_clockwise_from_the_front() -> None:
    views = settings(sectors=8)
    centres = [45.0 * i for i in range(8)]
    assert tuple(words_at(centres, 0, views)) == EIGHT
    assert tuple(words_at([c - 22.5 for c in centres], 0, views)) == EIGHT
    assert tuple(words_at([c + 22.49 - 360 for c in centres], 0, views)) == EIGHT
    assert words_at([90, -90], 0, views) == ["left side", "right side"]


@pytest.mark.parametrize("sectors", [4, 8])
def test_a_hair_below_a_whole_turn_is_still_a_sector(sectors: int) -> None:
    """remainder(-tiny, 360) rounds to 360 in float32, one past the last sector."""
    views = settings(sectors=sectors)
    start = -22.5 if sectors == 8 else -45.0
    hair = torch.nextafter(torch.tensor([start, 0.0, 360.0, 337.5, 315.0]), torch.tensor(-1e9))
    index = view_index(hair, torch.zeros(5), views)
    assert index.max() < sectors
    lower, upper, share = view_mix(torch.tensor([-1e-9]), sectors)
    assert (lower.item() < sectors, upper.item() < sectors, 0 <= share.item() < 1) == (True, True, True)


@pytest.mark.parametrize("sectors", [4, 8])
def test_overhead_is_above_the_threshold_and_not_at_it(sectors: int) -> None:
    views = settings(sectors=sectors)
    az = torch.zeros(4)
    index = view_index(az, torch.tensor([59.99, 60.0, 60.01, 90.0]), views)
    assert [view_words(views)[i] for i in index.tolist()] == ["front", "front", "overhead", "overhead"]
    assert words_at([200], 30.0, settings(sectors=sectors, overhead=20)) == ["overhead"]


def test_texts() -> None:
    assert view_texts("a car", settings(sectors=4)) == (
        "a car, front view",
        "a car, side view",
        "a car, back view",
        "a car, side view",
        "a car, overhead view",
    )
    assert view_texts("a car", settings(sectors=8))[3] == "a car, back left view"
    assert view_texts("a car", settings(mode="none")) == ("a car",)
    odd = settings(template="{view} picture of {prompt}")
    assert view_texts("a {view} car", odd)[0] == "front picture of a front car"


@pytest.mark.parametrize("sectors", [4, 8])
def test_the_height_is_named_after_the_view(sectors: int) -> None:
    views = settings(sectors=sectors, angles=4)
    az, elevation = (
        torch.tensor([0.0, 180.0, 0.0, 180.0, 0.0, 180.0, 0.0, 180.0]),
        [-90.0, 12.0, 12.01, 36.0, 36.01, 60.0, 60.01, 90.0],
    )
    texts = view_texts("a car", views)
    assert [texts[i] for i in view_index(az, torch.tensor(elevation), views).tolist()] == [
        "a car, front view, low angle",
        "a car, back view, low angle",
        "a car, front view, medium angle",
        "a car, back view, medium angle",
        "a car, front view, high angle",
        "a car, back view, high angle",
        "a car, front view, overhead angle",
        "a car, back view, overhead angle",
    ]
    assert len(texts) == len(view_words(views)) == 4 * sectors


def test_the_high_angle_must_have_room() -> None:
    assert view_texts("a car", settings(angles=4, overhead=36.5))[8] == "a car, front view, high angle"
    with pytest.raises(ValidationError, match=r"overhead: 36 is not above 36, where the high angle begins"):
        settings(angles=4, overhead=36)


@pytest.mark.parametrize("mode", ["discrete", "interpolated"])
def test_embeddings_follow_the_height(mode: str) -> None:
    prompts = ViewPrompts("a car", "", settings(sectors=8, angles=4, mode=mode), Counting())
    found = prompts.batch(cameras([90, 90, 90, 90], [0, 20, 50, 80])).positive.embedding[:, 0]
    words = [f"a car, left side view, {height} angle" for height in ("low", "medium", "high", "overhead")]
    torch.testing.assert_close(found, torch.stack([row_of(text) for text in words]))


def test_perp_neg_stays_at_the_height_of_the_view() -> None:
    views = settings(sectors=8, angles=4, mode="interpolated", perp_neg=1)
    batch = ViewPrompts("a car", "", views, Counting()).batch(cameras([45, 45, 45], [0, 50, 80]))
    assert batch.negative_weights is not None
    for row, height in enumerate(("low", "high")):
        for column, word in enumerate(("front", "left side")):
            found = batch.negatives[column].embedding[row, 0]
            torch.testing.assert_close(found, row_of(f"a car, {word} view, {height} angle"))
    assert (batch.negative_weights[:2] > 0).all()
    assert batch.negative_weights[2].tolist() == [0, 0]


@pytest.mark.parametrize(("options", "asked"), [({"sectors": 4}, 5), ({"sectors": 8}, 10), ({"mode": "none"}, 2)])
def test_each_distinct_text_is_encoded_once(options: dict[str, object], asked: int) -> None:
    guidance = Counting()
    prompts = ViewPrompts("a car", "", settings(**options), guidance)
    for _ in range(3):
        prompts.batch(cameras([0, 90, 180], 10))
    assert len(guidance.asked) == len(set(guidance.asked)) == asked


def test_each_view_gets_its_own_words_and_all_the_same_negative() -> None:
    guidance = Counting(pooled=True)
    prompts = ViewPrompts("a car", "ugly", settings(sectors=8), guidance)
    seen = cameras([0, 90, 200, 0], [0, 10, 20, 70])
    batch = prompts.batch(seen)
    expected = torch.stack([row_of(f"a car, {view} view") for view in ("front", "left side", "back", "overhead")])
    torch.testing.assert_close(batch.positive.embedding, expected[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(batch.positive.pooled, expected)
    torch.testing.assert_close(batch.negative.embedding, row_of("ugly").expand(4, 3, 5))
    assert batch.positive.cameras is seen


def test_interpolation_mixes_the_two_nearest_azimuths() -> None:
    prompts = ViewPrompts("a car", "", settings(sectors=8, mode="interpolated"), Counting(pooled=True))
    found = prompts.batch(cameras([45, 54, 351, 54], [0, 0, 0, 80])).positive
    front, left, side, right = (row_of(f"a car, {EIGHT[i]} view") for i in (0, 1, 2, 7))
    expected = torch.stack([left, 0.8 * left + 0.2 * side, 0.2 * right + 0.8 * front, row_of("a car, overhead view")])
    torch.testing.assert_close(found.embedding[:, 0], expected)
    torch.testing.assert_close(found.pooled, expected)


def test_interpolation_of_four_sectors_passes_both_sides() -> None:
    prompts = ViewPrompts("a car", "", settings(sectors=4, mode="interpolated"), Counting())
    found = prompts.batch(cameras([-45, 45, 135], 0)).positive.embedding[:, 0]
    front, side, back = (row_of(f"a car, {view} view") for view in ("front", "side", "back"))
    torch.testing.assert_close(found, torch.stack([(front + side) / 2, (front + side) / 2, (side + back) / 2]))


def test_without_views_every_camera_gets_the_prompt() -> None:
    prompts = ViewPrompts("a car", "", settings(mode="none"), Counting())
    found = prompts.batch(cameras([0, 90, 180], [0, 80, -80])).positive.embedding
    torch.testing.assert_close(found, row_of("a car").expand(3, 3, 5))


def decay(a: float, b: float, c: float, r: float) -> float:
    return a * math.exp(-b * r) + c


@pytest.mark.parametrize("sectors", [4, 8])
def test_perp_neg_pushes_each_view_away_from_its_neighbours(sectors: int) -> None:
    """Front to side: away from both ends, each the more the nearer the other. Side to back: away from the side and the front."""
    left, right = ("left side", "right side") if sectors == 8 else ("side", "side")
    views = settings(sectors=sectors, mode="interpolated", perp_neg=0.5)
    azimuth = [0, 30, -30, 90, 150, 210, 180, 20]
    batch = ViewPrompts("a car", "", views, Counting(pooled=True)).batch(cameras(azimuth, [0] * 7 + [70]))
    fs, sb, fb = (4, 0.5, -2.426), (1, 0.5, -0.606), (1, 0.5, 0.967)
    third = 1 / 3
    expected = [
        (("front", left), (0, decay(*fs, 0))),
        (("front", left), (decay(*fs, 2 * third), decay(*fs, third))),
        (("front", right), (decay(*fs, 2 * third), decay(*fs, third))),
        ((left, "front"), (0, decay(*fb, 1))),
        ((left, "front"), (decay(*sb, third), decay(*fb, third))),
        ((right, "front"), (decay(*sb, third), decay(*fb, third))),
        ((left, "front"), (decay(*sb, 0), decay(*fb, 0))),
    ]
    assert batch.negative_weights is not None
    for row, (words, weights) in enumerate(expected):
        for column, (word, weight) in enumerate(zip(words, weights, strict=True)):
            assert batch.negative_weights[row, column].item() == pytest.approx(0.5 * weight, abs=5e-4)
            torch.testing.assert_close(batch.negatives[column].embedding[row, 0], row_of(f"a car, {word} view"))
    assert batch.negative_weights[7].tolist() == [0, 0]  # overhead
    assert (batch.negative_weights >= 0).all()


def test_perp_neg_weights_are_continuous_around_the_object() -> None:
    azimuth = torch.linspace(-180, 180, 2001)
    views = settings(sectors=8, mode="interpolated", perp_neg=1)
    rows, weights = perp_neg_views(azimuth, torch.zeros_like(azimuth), views)
    by_view = torch.zeros(2001, 9).scatter_add(1, rows, weights)
    assert (by_view[:, 0].diff().abs() < 0.01).all()  # the front's, all the way round; the sides' meet at 0 or swap at the back
    assert torch.allclose(weights, weights.flip(0), atol=1e-4)


def test_without_perp_neg_there_is_nothing_to_push_from_and_it_needs_views() -> None:
    batch = ViewPrompts("a car", "", settings(sectors=8), Counting()).batch(cameras([0, 90], 0))
    assert batch.negatives == ()
    assert batch.negative_weights is None
    with pytest.raises(ValueError, match="write mode: interpolated"):
        settings(mode="none", perp_neg=1)


def test_what_losses_ask_for_follows_the_views_where_it_names_the_prompt() -> None:
    guidance = Counting()
    texts = ["", "{prompt}, sharp", "ugly", ""]
    batch = ViewPrompts("a car", "ugly", settings(sectors=8), guidance, texts).batch(cameras([0, 90], [0, 80]))
    assert set(batch.texts) == {"", "{prompt}, sharp", "ugly"}
    assert len(guidance.asked) == len(set(guidance.asked)) == 9 + 9 + 2
    torch.testing.assert_close(batch.texts[""].embedding[:, 0], row_of("").expand(2, 5))
    torch.testing.assert_close(batch.texts["ugly"].embedding, batch.negative.embedding)
    sharp = torch.stack([row_of(f"a car, sharp, {view} view") for view in ("front", "overhead")])
    torch.testing.assert_close(batch.texts["{prompt}, sharp"].embedding[:, 0], sharp)


def test_they_are_interpolated_as_the_prompt_is() -> None:
    views = settings(sectors=8, mode="interpolated")
    batch = ViewPrompts("a car", "", views, Counting(), ["{prompt}, sharp"]).batch(cameras([54], 0))
    left, side = (row_of(f"a car, sharp, {word} view") for word in ("front left", "left side"))
    torch.testing.assert_close(batch.texts["{prompt}, sharp"].embedding[0, 0], 0.8 * left + 0.2 * side)
