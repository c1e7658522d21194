"""View words at exact boundaries, the two nearest views, and what Perp-Neg pushes from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from counting_prior import cameras
from pydantic import ValidationError

from dfw import Wording
from dfw_prompters.directional import Directional, perp_neg_views, view_index, view_mix, view_texts, view_words

EIGHT = ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right")


def settings(**options: object) -> Directional.Config:
    return Directional.Config.model_validate(options)


def words_at(azimuth: Sequence[float], elevation: float, views: Directional.Config) -> list[str]:
    az = torch.tensor(azimuth)
    return [view_words(views)[i] for i in view_index(az, torch.full_like(az, elevation), views).tolist()]


def described(azimuth: Sequence[float], elevation: Sequence[float] | float, **options: object) -> tuple[Wording, list[list[str]]]:
    """What the prompter says of views, and the texts that its rows stand for."""
    prompter = Directional(settings(**options))
    found = prompter.choose(cameras(azimuth, elevation))
    texts = prompter.texts("a car")
    return found, [[texts[row] for row in rows] for rows in found.rows.tolist()]


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
    odd = settings(template="{view} picture of {prompt}")
    assert view_texts("a {view} car", odd)[0] == "front picture of a {view} car"  # only the template's own fields are filled in


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


def decay(a: float, b: float, c: float, r: float) -> float:
    return a * math.exp(-b * r) + c


@pytest.mark.parametrize("sectors", [4, 8])
def test_perp_neg_pushes_each_view_away_from_its_neighbours(sectors: int) -> None:
    """Front to side: away from both ends, each the more the nearer the other. Side to back: away from the side and the front."""
    left, right = ("left side", "right side") if sectors == 8 else ("side", "side")
    prompter = Directional(settings(sectors=sectors, mode="interpolated", perp_neg=0.5))
    texts = prompter.texts("a car")
    found = prompter.choose(cameras([0, 30, -30, 90, 150, 210, 180, 20], [0] * 7 + [70]))
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
    assert found.away_rows is not None
    assert found.away_weights is not None
    assert found.away_rows.dtype == torch.int64
    for row, (words, weights) in enumerate(expected):
        for column, (word, weight) in enumerate(zip(words, weights, strict=True)):
            assert found.away_weights[row, column].item() == pytest.approx(0.5 * weight, abs=5e-4)
            assert texts[int(found.away_rows[row, column])] == f"a car, {word} view"
    assert found.away_weights[7].tolist() == [0, 0]  # overhead
    assert (found.away_weights >= 0).all()


def test_perp_neg_weights_are_continuous_around_the_object() -> None:
    azimuth = torch.linspace(-180, 180, 2001)
    views = settings(sectors=8, mode="interpolated", perp_neg=1)
    rows, weights = perp_neg_views(azimuth, torch.zeros_like(azimuth), views)
    by_view = torch.zeros(2001, 9).scatter_add(1, rows, weights)
    assert (by_view[:, 0].diff().abs() < 0.01).all()  # the front's, all the way round; the sides' meet at 0 or swap at the back
    assert torch.allclose(weights, weights.flip(0), atol=1e-4)


def test_without_perp_neg_there_is_nothing_to_push_from() -> None:
    found, _ = described([0, 90], 0, sectors=8)
    assert (found.away_rows, found.away_weights) == (None, None)


@pytest.mark.parametrize("angles", [1, 4])
def test_a_view_is_described_by_its_own_words_alone(angles: int) -> None:
    found, texts = described([0, 90, 200, 0], [0, 20, 50, 70], sectors=8, angles=angles)
    heights = ["", "", "", ""] if angles == 1 else [f", {height} angle" for height in ("low", "medium", "high", "overhead")]
    words = ["front", "left side", "back", "overhead" if angles == 1 else "front"]
    assert texts == [[f"a car, {word} view{height}"] for word, height in zip(words, heights, strict=True)]
    assert found.weights.tolist() == [[1], [1], [1], [1]]


def test_interpolation_takes_the_two_nearest_azimuths_by_their_distance() -> None:
    """Of eight sectors: exactly one, a fifth of the way on, a fifth of the way back over the whole turn, and overhead."""
    found, texts = described([45, 54, 351, 54], [0, 0, 0, 80], sectors=8, mode="interpolated")
    left, front = "a car, front left view", "a car, front view"
    assert texts[0][0] == left
    assert texts[1:3] == [[left, "a car, left side view"], ["a car, front right view", front]]
    assert texts[3] == ["a car, overhead view"] * 2
    torch.testing.assert_close(found.weights[:3], torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.2, 0.8]]))
    torch.testing.assert_close(found.weights.sum(1), torch.ones(4))


@pytest.mark.parametrize("angles", [1, 4])
@pytest.mark.parametrize("sectors", [4, 8])
def test_the_cameras_of_its_views_stand_in_the_middle_of_them(sectors: int, angles: int) -> None:
    options = {"sectors": sectors, "angles": angles, "overhead": 40}
    prompter = Directional(settings(**options))
    views = prompter.views()
    assert [int(row) for row in prompter.choose(views).rows[:, 0]][-1] == (sectors if angles == 1 else 4 * sectors - 1)
    words = [view_words(prompter.config)[i] for i in view_index(views.azimuth, views.elevation, prompter.config).tolist()]
    assert tuple(words) == view_words(prompter.config)
