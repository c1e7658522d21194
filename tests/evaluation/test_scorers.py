"""The built-in scorers that need no download, against what their definitions give by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import dfw
from dfw import CameraBatch, Score, Scorer, Shown, orbit
from dfw.config.lists import prompt_list
from dfw_geometry.sdf_scene import SdfScene
from dfw_geometry.shapes import KINDS, SOLIDS, parse_prompt
from dfw_scorers.judge.answers import names_view, ranked, read, sees_front, verdict_of
from dfw_scorers.judge.network import Judge
from dfw_scorers.silhouette import hull_shares

SIDE = 64


def built(name: str, **options: object) -> Scorer:
    made = dfw.build("scorer", name, **options)
    assert isinstance(made, Scorer)
    return made


def one(name: str, run: Shown, **options: object) -> Score:
    with torch.no_grad():
        (score,) = built(name, **options).score([run])
    return score


def discs(cameras: CameraBatch, radius: Tensor) -> Tensor:
    """The silhouettes (B, S, S) of balls of `radius` (B,), one for each view: rays that pass the centre within it."""
    rays = cameras.rays()
    along = (rays.origin * rays.direction).sum(-1, keepdim=True)
    return (rays.origin - along * rays.direction).norm(dim=-1) < radius[:, None, None]


def of_balls(*radii: float, count: int = 8) -> Shown:
    """Views at the horizon of balls with these radii, in turn."""
    cameras = orbit(count, 0.0, 3.0, 40.0, SIDE, SIDE)
    solid = discs(cameras, torch.tensor(radii).repeat(count)[:count])
    opacity = (solid * 255).to(torch.uint8)
    return Shown("a red ball", cameras, opacity[..., None].expand(-1, -1, -1, 3).clone(), opacity)


def test_silhouettes_of_one_ball_agree() -> None:
    assert one("silhouette", of_balls(0.6)).value == 1.0


def test_silhouettes_of_two_balls_agree_in_the_smaller_one() -> None:
    """The hull is within the small ball's silhouettes, so a large one's view is filled by about the ratio of the areas."""
    run = of_balls(0.8, 0.4)
    shares = hull_shares(run.cameras, run.opacity > 0, 192)
    areas = (run.opacity > 0).flatten(1).sum(1)
    assert shares[1::2] == pytest.approx(torch.ones(4))
    wide = (2 * 0.4 / (2 * 3 * math.tan(math.radians(20))) * SIDE + 2) / SIDE  # a pixel on each side is allowed
    low, high = float(areas[1] / areas[0]), (wide * 3 * math.tan(math.radians(20)) / 0.8) ** 2
    assert all(low - 0.02 <= share <= 4 / math.pi * high for share in shares[::2].tolist())
    assert one("silhouette", run).value == pytest.approx(float(shares.mean()), abs=0.02)


def test_views_without_anything_opaque_have_no_silhouette() -> None:
    run = of_balls(0.6)
    run.opacity[3] = 100
    found = one("silhouette", run)
    assert found.value is None
    assert found.details["why"] == "nothing is opaque in 1 of 8 views"


# -- the judge ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


def test_the_judge_reads_prompts_as_the_shapes_do(judge: Judge) -> None:
    texts = [f"a {colour} {kind}" for kind in KINDS for colour in ("red", "pink")]
    texts += [f"a red {top} on a green {bottom}" for top in SOLIDS for bottom in SOLIDS if top != bottom]
    for text in [*texts, *prompt_list("@embedded"), "An Orange  fish."]:
        scene, found = parse_prompt(text), read(text, judge)
        assert found is not None, text
        assert (found.kind, found.colour) == (scene.form.name, scene.colours[0])
        assert found.second == (scene.colours[1] if len(scene.colours) > 1 else None)
    assert [read(text, judge) for text in ("a corgi", "a red corgi", "red mushroom", "", "a red duck on a red car")] == [None] * 5
    assert judge.facing == [kind for kind in judge.kinds if kind in KINDS and not KINDS[kind].turned]


def test_a_sector_reaches_half_way_to_the_next_one() -> None:
    """Each azimuth with the sectors that are right for it: counter-clockwise from the front, and overhead above 60 degrees."""
    right = {
        0.0: {0},
        22.0: {0},
        22.5: {0, 1},
        23.0: {1},
        45.0: {1},
        180.0: {4},
        -180.0: {4},
        -45.0: {7},
        -22.5: {0, 7},
        359.0: {0},
    }
    guess, low, high = torch.arange(9), torch.full((9,), 60.0), torch.full((9,), 61.0)
    for azimuth, sectors in right.items():
        angle = torch.full((9,), azimuth)
        assert set(names_view(guess, angle, low).nonzero()[:, 0].tolist()) == sectors, azimuth
        assert names_view(guess, angle, high).nonzero()[:, 0].tolist() == [8]


def true_views(prompt: str, count: int = 16, elevation: float = 15.0) -> Shown:
    """The true object as the default run's renderer shows it."""
    scene = SdfScene(SdfScene.Config(shape=prompt))
    cameras = orbit(count, elevation, 3.0, 40.0, SIDE, SIDE)
    renderer = dfw.build("renderer", "volume", samples=64, shading={"eval_shading": "lambertian"})
    with torch.no_grad():
        seen = renderer.eval()(scene, cameras)  # type: ignore[attr-defined]
    colour, opacity = ((value.clamp(0, 1) * 255).round().to(torch.uint8) for value in (seen.colour, seen.opacity))
    return Shown(prompt, cameras, colour, opacity, prompts=(prompt,))


@pytest.fixture(scope="module")
def car() -> Shown:
    return true_views("a blue car")


def test_the_true_object_is_judged_right(car: Shown) -> None:
    found = one("judge", car)
    assert found.value is not None
    assert found.value > 0.9
    assert found.details["among"] == "24 prompts"
    assert min(float(found.details[key]) for key in ("kind", "colour")) > 0.9
    assert float(found.details["view"]) > 0.7
    assert one("two-faced", car).value == 0.0
    assert one("silhouette", car).value == pytest.approx(1, abs=0.02)


def test_another_prompt_is_judged_wrong(car: Shown) -> None:
    found = one("judge", replace(car, prompt="a yellow duck"))
    assert (found.value, found.details["kind"], found.details["colour"]) == (0.0, 0.0, 0.0)


def test_an_object_with_two_fronts_is_two_faced(car: Shown) -> None:
    """Views from behind show what the view across the object shows."""
    across = [index if index < 4 or index >= 12 else (index + 8) % 16 for index in range(16)]
    found = one("two-faced", replace(car, colour=car.colour[across]))
    assert found.value == 1.0
    assert float(found.details["behind"]) > 0.5


def test_what_has_no_front_is_not_two_faced() -> None:
    found = one("two-faced", of_balls(0.6))
    assert found.value is None
    assert found.details["why"] == "a ball looks the same from all sides"


def test_views_from_behind_are_those_within_fifty_degrees() -> None:
    view = torch.full((5, 9), -9.0)
    view[:, 0] = -0.001
    azimuth = torch.tensor([0.0, 129.0, 131.0, -131.0, 180.0])
    assert sees_front(view, azimuth, torch.zeros(5)).tolist() == [True, True, True]


def test_views_from_overhead_or_from_below_are_not_from_behind() -> None:
    """Else the caps of T3Bench's sphere, where a front is no mistake, would decide."""
    view, azimuth = torch.full((6, 9), -9.0), torch.full((6,), 180.0)
    view[:, 0] = -0.001
    assert len(sees_front(view, azimuth, torch.tensor([90.0, 61.0, -61.0, -90.0, 60.0, -60.0]))) == 2


def test_the_judge_ranks_by_the_likelihood_of_all_words(judge: Judge, car: Shown) -> None:
    verdict = verdict_of(judge, next(car.pictures(4)))
    meanings = [read(text, judge) for text in ("a red car", "a blue car", "a blue boat")]
    assert ranked(judge, verdict, [one for one in meanings if one is not None]).tolist() == [1, 1, 1, 1]


def test_prompts_that_the_judge_cannot_read_have_no_score(car: Shown) -> None:
    for name in ("judge", "two-faced"):
        found = one(name, replace(car, prompt="a corgi"))
        assert found.value is None
        assert "not of the world" in str(found.details["why"])


# -- diversity ---------------------------------------------------------------------------------------------------------


def test_diversity_is_the_mean_distance_of_pairs(car: Shown, judge: Judge) -> None:
    """Of three seeds, two alike and one another, each is as far from the others as cosines by hand say."""
    other = replace(car, colour=255 - car.colour, seed=2)
    runs = [car, replace(car, seed=1), other]
    with torch.no_grad():
        scores = built("diversity").score(runs)
        features = [torch.nn.functional.normalize(judge.features(next(run.pictures(16))), dim=1) for run in (car, other)]
    apart = float((1 - (features[0] * features[1]).sum(1)).mean())
    assert apart > 0.05
    assert [score.value for score in scores] == pytest.approx([apart / 2, apart / 2, apart], abs=1e-5)
    assert all(score.per_view is not None and len(score.per_view) == 16 for score in scores)
    assert sum(score.value or 0 for score in scores) / 3 == pytest.approx((0 + apart + apart) / 3, abs=1e-5)


def test_one_seed_has_no_diversity(car: Shown) -> None:
    assert one("diversity", car).details["why"].startswith("there is one seed")  # type: ignore[union-attr]
