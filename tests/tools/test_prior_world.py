"""The world that the prior learns from: cameras, captions, what is held out."""

from __future__ import annotations

import math
from pathlib import Path

import captions
import pytest
import rounds
import torch
from buffers import render
from cameras import eye_frame, pixel_rays, random_cameras
from compose import AMBIENT, backgrounds, shading
from data import Words, World
from heldout import HELD_OUT, HELD_OUT_STACK_COLOURS, HELD_OUT_STACKS, allowed_colours

from dfw.config.load import load_config
from dfw_cameras.random import Random
from dfw_geometry.shapes import COLOURS, KINDS, Single, Stack
from dfw_prompters.directional import Directional, view_index, view_mix, view_texts


def camera(azimuth: float, elevation: float) -> dict[str, torch.Tensor]:
    one = torch.ones(1)
    return {"azimuth": azimuth * one, "elevation": elevation * one, "fovy": 40.0 * one, "distance": 3.0 * one}


def test_camera_positions_and_frames() -> None:
    angles = torch.tensor([0.0, 90.0, 180.0])
    eye, frame = eye_frame(angles, torch.tensor([0.0, 0.0, 90.0]), torch.full((3,), 3.0))
    expected = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    torch.testing.assert_close(eye, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(frame[0], torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frame), torch.ones(3))


def test_a_known_point_lands_on_its_pixel() -> None:
    """Seen from the front, +y is to the right and +z is up; pixel centres lie at half integers."""
    _, frame = eye_frame(torch.zeros(1), torch.zeros(1), torch.tensor([3.0]))
    rays = pixel_rays(frame, torch.tensor([40.0]), 64)[0]
    toward = torch.tensor([-3.0, 0.5, 0.25])
    match = (rays * (toward / torch.linalg.vector_norm(toward))).sum(-1).flatten().argmax()
    half = 3.0 * float(torch.tan(torch.deg2rad(torch.tensor(20.0))))
    assert divmod(int(match), 64) == (int((1 - 0.25 / half) * 32), int((1 + 0.5 / half) * 32))


def test_the_mug_handle_is_drawn_on_the_right_from_the_front_and_on_the_left_from_behind() -> None:
    for azimuth, sign in ((0.0, 1), (180.0, -1)):
        cover = render(Single("mug"), camera(azimuth, 0.0), size=32)[0, 5].float()
        columns = torch.nonzero(cover.sum(0) > 128).squeeze(1).float() - 15.5
        assert sign * float(columns.min() + columns.max()) > 1


def test_coverage_is_antialiased_and_within_the_picture() -> None:
    cover = render(Single("ball"), camera(0.0, 10.0), size=32)[0, 5]
    assert set(cover.unique().tolist()) >= {0, 64, 128, 191, 255} - {191}
    assert int(cover[0].max()) == int(cover[:, 0].max()) == 0


@pytest.mark.parametrize(
    ("azimuth", "elevation", "fine", "coarse"),
    [
        (0, 0, "front view", "front view"),
        (350, 30, "front view", "front view"),
        (45, 0, "front left view", "side view"),
        (90, 59, "left side view", "side view"),
        (140, 0, "back left view", "back view"),
        (180, -10, "back view", "back view"),
        (225, 0, "back right view", "side view"),
        (-90, 0, "right side view", "side view"),
        (320, 0, "front right view", "front view"),
        (123, 61, "overhead view", "overhead view"),
    ],
)
def test_view_words(azimuth: float, elevation: float, fine: str, coarse: str) -> None:
    assert captions.view_words(azimuth, elevation) == fine
    assert captions.view_words(azimuth, elevation, coarse=True) == coarse


def test_words_of_a_run_are_those_the_prior_was_taught() -> None:
    elevation = torch.tensor([-12.0, 12.0, 12.5, 36.0, 36.5, 60.0, 75.0])
    for angles in (1, 4):
        views = Directional.Config(sectors=8, angles=angles)
        index = view_index(torch.full_like(elevation, 100.0), elevation, views)
        for row, degrees in zip(index.tolist(), elevation.tolist(), strict=True):
            view = captions.view_words(100.0, degrees, angle=angles == 4)
            assert view_texts("a car", views)[row] == captions.caption(Single("car"), (None,), view)


def test_neighbours_of_a_run_are_those_the_prior_was_taught() -> None:
    azimuth = torch.rand(200, generator=torch.Generator().manual_seed(2)) * 1080 - 540
    lower, upper, share = view_mix(azimuth, 8)
    for row, degrees in enumerate(azimuth.tolist()):
        first, second, part = captions.neighbours(degrees)
        assert (45 * int(lower[row]), 45 * int(upper[row])) == (first, second)
        assert part == pytest.approx(float(share[row]), abs=1e-4)


def test_captions_read_like_english() -> None:
    assert captions.caption(Single("apple"), (None,), None) == "an apple"
    assert captions.caption(Single("chair"), ("orange",), "back view") == "an orange chair, back view"
    text = captions.caption(Stack("cube", "cylinder"), ("red", "orange"), None)
    assert text == "a red cube on an orange cylinder"


def test_a_tenth_of_the_pairs_is_held_out_evenly() -> None:
    assert len(HELD_OUT) >= len(KINDS) * len(COLOURS) / 10
    assert all(5 <= len(allowed_colours(kind)) < len(COLOURS) for kind in KINDS)
    assert all(sum(c == colour for c, _ in HELD_OUT) <= len(KINDS) / 4 for colour in COLOURS)


def test_what_is_held_out_is_never_drawn(small_world: Path) -> None:
    world = World(small_world / "rounds")
    generator = torch.Generator().manual_seed(3)
    names = list(COLOURS)
    for _ in range(6):
        batch = world.draw(200, generator)
        for number, first, second in zip(batch.form.tolist(), batch.colour.tolist(), batch.second.tolist(), strict=True):
            form = rounds.FORMS[number]
            if isinstance(form, Single):
                assert (names[first], form.kind) not in HELD_OUT
            else:
                assert (form.top, form.bottom) not in HELD_OUT_STACKS
                assert (names[first], names[second]) not in HELD_OUT_STACK_COLOURS


def test_the_mix_of_captions(small_world: Path) -> None:
    words = World(small_world / "rounds").draw(1500, torch.Generator().manual_seed(4)).words
    texts = [one.first for one in words]
    assert 0.07 < sum(text == "" for text in texts) / 1500 < 0.13
    assert 0.81 < sum("view" in text for text in texts) / 1500 < 0.89
    assert 0.67 < sum(text.endswith("angle") for text in texts) / 1500 < 0.77
    assert 0.34 < sum(one.share > 0 for one in words) / 1500 < 0.43
    assert all(0 <= one.share < 1 and (one.share > 0) == (one.first != one.second) for one in words)
    assert sum(" on " in text for text in texts) > 100


def test_opposite_captions_name_the_view_from_behind_or_the_mirrored_one(small_world: Path) -> None:
    """By the angle that a caption's words stand for: the centre of a sector, or the point between two centres."""
    world = World(small_world / "rounds")
    world.data["azimuth"] = torch.rand(len(world.data["azimuth"]), generator=torch.Generator().manual_seed(1)) * 360 - 180
    kinds = ("chair", "car", "duck", "cube", "ball")
    world.only(kinds)
    batch = world.draw(600, torch.Generator().manual_seed(9))
    assert {rounds.FORMS[number].kind for number in batch.form.tolist()} == set(kinds)  # type: ignore[union-attr]
    ring = [f"{words} view" for words in captions.SECTORS]

    def azimuth(words: Words) -> float | None:
        views = [text.split(", ")[1] for text in (words.first, words.second)]
        if not set(views) <= set(ring):
            return None
        first, second = (45.0 * ring.index(view) for view in views)
        return (first + ((second - first) % 360) * words.share) % 360

    turns: dict[str, int] = {"behind": 0, "mirrored": 0}
    for words, other in zip(batch.words, batch.opposite, strict=True):
        text = words.first
        if "cube" in text or "ball" in text or "view" not in text or "overhead view" in text:
            assert other is None
        elif other is not None:
            (body, view, *angle), (same, opposite, *angle_too) = text.split(", "), other.first.split(", ")
            assert (body, angle) == (same, angle_too)
            here, there = azimuth(words), azimuth(other)
            if here is None or there is None:
                assert (view, opposite) in [("front view", "back view"), ("back view", "front view")]
            else:
                behind, mirrored = (abs((there - to + 180) % 360 - 180) < 1e-6 for to in (here + 180, -here))
                assert behind or mirrored
                turns["behind" if behind else "mirrored"] += 1
                assert behind or abs(math.sin(math.radians(here))) > 0.4  # a sector's centre is up to 22.5 degrees off
    assert turns["behind"] > turns["mirrored"] > 20
    world.only(())
    assert len(set(world.draw(100, torch.Generator().manual_seed(9)).form.tolist())) > 10


def test_backgrounds_keep_away_from_the_object() -> None:
    colours = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))
    found = backgrounds(colours, 8, torch.Generator().manual_seed(2))
    plain = (found.amax((2, 3)) - found.amin((2, 3))).amax(1) < 1e-6
    assert 300 < int(plain.sum()) < 480
    assert float((found[plain, :, 0, 0] - colours[plain]).abs().amax(1).min()) >= 0.2


def test_batches_repeat_with_the_generator(small_world: Path) -> None:
    world = World(small_world / "rounds")
    first, again = (world.draw(8, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.words == again.words
    assert torch.equal(first.images, again.images)
    assert 0 <= float(first.images.min()) <= float(first.images.max()) <= 1


def test_training_cameras_stay_in_their_ranges() -> None:
    cameras = random_cameras(2000, torch.Generator().manual_seed(6))
    assert float(cameras["elevation"].min()) >= -15
    assert 0.08 < float((cameras["elevation"] > 60).float().mean()) < 0.16
    defaults = Random.Config()
    for key, (low, high) in (("distance", defaults.distance), ("fovy", defaults.fov)):
        assert low <= float(cameras[key].min()) <= float(cameras[key].max()) <= high


def test_the_refining_stage_is_lit_by_the_mean_of_this_world() -> None:
    """In configs/refine.yaml, for a surface turned 0, 60 and 90 degrees from the viewer; the light stands in the camera."""
    light = load_config(Path(__file__).parents[2] / "configs" / "refine.yaml").renderer.options["shading"]
    assert (light["mode"], light["start"], light["probability"], light["textureless"], light["light_deviation"]) == (
        "lambertian",
        0,
        1,
        0,
        0,
    )
    (ambient, strongest_ambient), (diffuse, strongest_diffuse) = light["ambient"], light["diffuse"]
    assert (ambient, diffuse) == (strongest_ambient, strongest_diffuse)
    eye = torch.tensor([[3.0, 0, 0]]).expand(40_000, 3)
    for degrees in (0.0, 60.0, 90.0):
        angle = math.radians(degrees)
        normal = torch.tensor([math.cos(angle), math.sin(angle), 0.0]).expand(40_000, 3)[..., None, None]
        seen = shading(normal, 0 * normal, eye, torch.Generator().manual_seed(0)).mean()
        assert ambient + diffuse * math.cos(angle) == pytest.approx(float(seen), abs=0.015)


@pytest.mark.parametrize(("name", "brighter"), [("mvdream", 1.15), ("refine-mvdream", 1.0)])
def test_the_multi_view_model_sees_scenes_under_the_light_it_knows(name: str, brighter: float) -> None:
    """A lamp at the camera with the ambient share of its training; brighter for a field, whose normals scatter."""
    light = load_config(Path(__file__).parents[2] / "configs" / f"{name}.yaml").renderer.options["shading"]
    assert (light["mode"], light["start"], light["probability"], light["textureless"]) == ("lambertian", 0, 1, 0)
    assert light["light_deviation"] == 0
    assert light["light_distance"] == [3, 3]
    assert light["ambient"] == pytest.approx([brighter * AMBIENT] * 2)
    assert light["diffuse"] == pytest.approx([brighter * (1 - AMBIENT)] * 2)
