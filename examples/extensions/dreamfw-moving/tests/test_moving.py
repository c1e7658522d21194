"""Each component against its interface's promises, and against what can be worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
from dreamfw_moving.cameras import Clip
from dreamfw_moving.geometry import Warped
from dreamfw_moving.guidance import Steady
from dreamfw_moving.prompter import Story
from torch import Tensor

import dfw
from dfw import CameraBatch, ComponentConfig, DensityField, FieldSample, Geometry, cameras_at
from dfw.testing import CamerasTests, GeometryTests, GuidanceTests, PrompterTests

GRID = {"type": "hash-grid", "levels": 1, "features": 2, "log2_size": 4, "base": 2, "finest": 2}
FIELD = {"type": "dreamfw/nerf", "encoding": GRID, "density_network": {"width": 4}, "colour_network": {"width": 4}}
PRIOR = {"type": "dreamfw/gaussian", "means": {"a sky": [0.2, 0.4, 0.9], "a meadow": [0.2, 0.6, 0.1]}, "resolution": 4}


class Ball(DensityField):
    """A white ball at `centre`."""

    radius = 1.0

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.centre = centre

    def density(self, points: Tensor) -> Tensor:
        return 200 * torch.sigmoid(40 * (0.3 - (points - self.centre).norm(dim=-1)))

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        return FieldSample(self.density(points), torch.ones_like(points))


class Climbing(Geometry):
    """A ball that goes from 0.4 below the centre to 0.4 above it."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()

    def at(self, time: Tensor) -> Ball:
        return Ball(torch.stack([0 * time, 0 * time, 0.8 * time - 0.4]))


def front(times: list[float]) -> CameraBatch:
    one = torch.ones(len(times))
    return cameras_at(0 * one, 0 * one, 3 * one, 40 * one, 16, 16).at_time(torch.tensor(times))


def test_each_view_shows_the_scene_at_its_time() -> None:
    inner = {"type": "dreamfw/volume", "samples": 32, "occupancy": {"enabled": False}}
    renderer: Any = dfw.build("renderer", "dreamfw-moving/moments", renderer=inner)
    with torch.no_grad():
        render = renderer.eval()(Climbing(), front([0.0, 0.5, 1.0]))
    rows = torch.arange(16.0)
    middle = (render.opacity.sum(2) * rows).sum(1) / render.opacity.sum((1, 2))
    expected = 7.5 - torch.tensor([-0.4, 0.0, 0.4]) * 8 / (3 * torch.tan(torch.deg2rad(torch.tensor(20.0))))
    torch.testing.assert_close(middle, expected, atol=0.1, rtol=0)
    assert render.samples.ray.max() >= 2 * 256


def test_nothing_has_moved_at_the_first_moment() -> None:
    scene: Any = dfw.build("geometry", "dreamfw-moving/warped", field=FIELD)
    scene.initialise(torch.Generator().manual_seed(0))
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    torch.testing.assert_close(scene.density_field().density(points), scene.field.density(points))
    assert not torch.allclose(scene.at(torch.tensor(1.0)).density(points), scene.field.density(points))


def test_a_clean_estimate_is_drawn_towards_its_neighbours() -> None:
    """Of three frames, the middle one gets half of the others' mean, and an end half of itself and its neighbour."""
    steady: Any = dfw.build("guidance", "dreamfw-moving/steady", frames=3, steadiness=0.5, prior=PRIOR)
    noisy = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    time, text = torch.full((3,), 400), steady.encode_text(["a sky"] * 3)
    clean = [steady.predict_clean(noisy, time, one.predict_noise(noisy, time, text)) for one in (steady.prior, steady)]
    first, middle, last = clean[0]
    expected = [0.75 * first + 0.25 * middle, 0.5 * middle + 0.25 * (first + last), 0.75 * last + 0.25 * middle]
    torch.testing.assert_close(clean[1], torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_the_words_go_from_the_first_prompt_to_the_last() -> None:
    story: Any = dfw.build("prompter", "dreamfw-moving/story", until="a yellow cube", views="dreamfw/plain")
    assert story.texts("a red cube") == ["a red cube", "a yellow cube"]
    wording = story.choose(front([0.0, 0.25, 1.0]))
    torch.testing.assert_close(wording.weights, torch.tensor([[1, 0], [0.75, 0.25], [0, 1]]))


class TestWarped(GeometryTests):
    component = Warped
    options = {"field": FIELD, "width": 4}  # noqa: RUF012
    steps = 3

    def observe(self, made: Any, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        points = 1.6 * self.draw(64, 3, dtype=dtype) - 0.8
        found = made.at(torch.tensor(0.7, dtype=dtype, device=self.device)).sample(points, normals=True)
        return {"density": found.density, "albedo": found.albedo, "normal": found.normal}


class TestClip(CamerasTests):
    component = Clip


class TestStory(PrompterTests):
    component = Story
    options = {"until": "a yellow cube"}  # noqa: RUF012
    expected_failures = {"test_texts_hold_the_prompt": "the last moment has a prompt of its own"}  # noqa: RUF012


class TestSteady(GuidanceTests):
    component = Steady
    options = {"frames": 2, "prior": PRIOR}  # noqa: RUF012
    expected_failures = {  # noqa: RUF012
        "test_views_of_a_scene_are_seen_together": "frames follow one another; where they stand is not asked"
    }
    views = 2
    prompts = ("a sky", "a meadow")
