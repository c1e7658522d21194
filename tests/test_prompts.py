"""View words at exact boundaries, and embeddings that are encoded once and looked up by view."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from dfw import CameraBatch, Conditioning
from dfw.cameras import orbit
from dfw.prompts import ViewPrompts, view_index, view_mix, view_texts, view_words
from dfw.settings import ViewSettings
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
