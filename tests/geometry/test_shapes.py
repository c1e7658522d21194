"""The shapes: distances that may be marched along, surfaces inside the ball, colours, conventions, captions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfw_geometry.shapes import COLOURS, KINDS, SOLIDS, Single, Stack, parse_prompt

FORMS = [*(Single(kind) for kind in KINDS), *(Stack(t, b) for t in SOLIDS for b in SOLIDS)]
NAMES = [form.name for form in FORMS]


def cloud(count: int, reach: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1) * reach


def look(form: Single | Stack, eye: tuple[float, float, float], across: int = 48) -> tuple[Tensor, Tensor]:
    """Points hit by parallel rays from ``eye`` towards the origin, ``[N, 3]``, and their fixed colours."""
    back = torch.tensor(eye, dtype=torch.float64)
    right = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), back)
    up = torch.linalg.cross(back, right)
    grid = torch.linspace(-0.9, 0.9, across, dtype=torch.float64)
    u, v = torch.meshgrid(grid, grid, indexing="ij")
    points = back + u.reshape(-1, 1) * right + v.reshape(-1, 1) * up
    for _ in range(80):
        points = points - form.distance(points)[:, None] * back
    points = points[form.distance(points).abs() < 1e-2]
    return points, form.paint(points)[1]


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_distance_never_changes_faster_than_the_point_moves(form: Single | Stack) -> None:
    points = cloud(4000, 1.3, 1)
    steps = cloud(4000, 0.05, 2)
    change = (form.distance(points + steps) - form.distance(points)).abs()
    assert bool((change <= torch.linalg.vector_norm(steps, dim=-1) * (1 + 1e-3) + 1e-9).all())


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_fills_the_ball_and_stays_inside_it(form: Single | Stack) -> None:
    points = cloud(60000, 1.0, 3)
    inside = points[form.distance(points) < 0]
    radius = torch.linalg.vector_norm(inside, dim=-1)
    assert float(radius.max()) <= 0.9
    assert float(radius.max()) >= 0.7
    assert 0.005 < len(inside) / len(points) < 0.6
    directions = points / torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    assert bool((form.distance(directions * 0.9) > 0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_albedo_is_a_colour_and_the_main_part_is_visible(kind: str) -> None:
    scene = parse_prompt(f"a purple {kind}")
    points = cloud(60000, 0.9, 4)
    surface = points[scene.distance(points).abs() < 0.02]
    albedo = scene.colour(surface)
    assert albedo.shape == surface.shape
    assert float(albedo.min()) >= 0
    assert float(albedo.max()) <= 1
    purple = torch.tensor(COLOURS["purple"], dtype=torch.float64)
    assert float(((albedo - purple).abs().amax(-1) < 1e-6).double().mean()) > 0.2


def test_single_precision_agrees_and_leading_dimensions_are_kept() -> None:
    points = cloud(600, 1.0, 5).view(10, 20, 3, 3)
    for kind in KINDS:
        scene = parse_prompt(f"a red {kind}")
        assert scene.distance(points).shape == points.shape[:-1]
        single = scene.distance(points.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), scene.distance(points), atol=1e-5, rtol=1e-4)


def test_gradients_are_finite_everywhere() -> None:
    points = torch.cat((torch.zeros(1, 3), cloud(200, 1.0, 6).float())).requires_grad_()
    for form in FORMS:
        (grad,) = torch.autograd.grad(form.distance(points).sum(), points)
        assert bool(grad.isfinite().all()), form.name


def test_mug_handle_is_on_its_left_which_the_camera_in_front_sees_on_the_right() -> None:
    points = cloud(60000, 0.9, 7)
    inside = points[Single("mug").distance(points) < 0]
    assert float(inside[:, 1].max()) > -float(inside[:, 1].min()) + 0.1


@pytest.mark.parametrize(
    ("kind", "colour"),
    [("car", (0.98, 0.95, 0.70)), ("robot", (0.98, 0.95, 0.70)), ("duck", (0.95, 0.55, 0.10)), ("house", (0.42, 0.27, 0.14))],
)
def test_fronts_face_the_positive_x_axis(kind: str, colour: tuple[float, float, float]) -> None:
    """Headlights, eyes, beak and door are seen from the front and not from behind."""
    wanted = torch.tensor(colour, dtype=torch.float64)
    seen = {}
    for side in (1.0, -1.0):
        _, fixed = look(Single(kind), (side, 0.0, 0.0))
        seen[side] = int(((fixed - wanted).abs().amax(-1) < 1e-6).sum())
    assert seen[1.0] >= 6
    assert seen[-1.0] == 0


def test_shapes_and_colours_are_those_that_the_prior_was_trained_on() -> None:
    """Distances and colours at 160 fixed points of each kind and of three stacks. Other shapes would need another prior."""
    k = torch.arange(1, 161, dtype=torch.float64)[:, None]
    spread = torch.tensor([0.8191725133961645, 0.6710436067037893, 0.5497004779019703], dtype=torch.float64)  # R3, Roberts 2018
    points = ((k * spread) % 1 * 2 - 1) * 0.85
    known = json.loads(Path(__file__).with_name("shapes.json").read_text())
    assert known.keys() >= KINDS.keys()
    assert {name: list(colour) for name, colour in COLOURS.items()} == known.pop("colours")
    for text, values in known.items():
        scene = parse_prompt(text if " " in text else f"a purple {text}")
        wanted = {name: torch.tensor(one, dtype=torch.float64) for name, one in values.items()}
        torch.testing.assert_close(
            scene.distance(points), wanted["distance"], atol=1e-4, rtol=0, msg=lambda m, t=text: f"{t}: {m}"
        )
        total = scene.colour(points).sum(-1).double()
        torch.testing.assert_close(total, wanted["colour"], atol=1e-3, rtol=0, msg=lambda m, t=text: f"{t}: {m}")


@pytest.mark.parametrize(("bottom", "sink"), [("cube", 0.0), ("cylinder", 0.0), ("ball", 0.06), ("donut", 0.06)])
def test_the_top_of_a_stack_stands_on_its_bottom(bottom: str, sink: float) -> None:
    """On the axis, where a cube above begins, measured from the middle of the lower solid in units of its own model."""
    stack = Stack("cube", bottom)
    (_, _), (middle, size) = stack._layout()
    z = torch.linspace(-1, 1, 40001)
    top, _ = stack._distances(torch.stack([0 * z, 0 * z, z], -1))
    begins = (float(z[top < 0].min()) - middle) / size
    wanted = {"cube": 0.5, "cylinder": 0.65, "ball": 0.5, "donut": 0.26}[bottom] - sink
    assert begins == pytest.approx(wanted, abs=0.01)


def test_top_and_bottom_of_a_stack_take_their_own_colours() -> None:
    scene = parse_prompt("a red cube on a blue cylinder")
    low, high = scene.colour(torch.tensor([[0.0, 0.0, -0.7], [0.0, 0.0, 0.7]]))
    torch.testing.assert_close(low, torch.tensor(COLOURS["blue"]))
    torch.testing.assert_close(high, torch.tensor(COLOURS["red"]))


def test_there_are_enough_kinds_and_many_have_a_front() -> None:
    assert len(KINDS) >= 26
    assert sum(not shape.turned for shape in KINDS.values()) >= 12


@pytest.mark.parametrize("view", ["", ", front view", ", back left view", ", overhead view", ", back view, low angle"])
def test_view_words_and_articles_do_not_matter(view: str) -> None:
    assert parse_prompt(f"An orange airplane{view}") == parse_prompt("orange airplane")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red dragon", "dragon"),
        ("a turquoise cube", "turquoise"),
        ("a cube", "cannot read"),
        ("", "cannot read"),
        ("a red chair on a blue cube", "stand on one another"),
        ("a red cube on a blue cube on a green cube", "stand on one another"),
    ],
)
def test_other_prompts_are_refused_with_the_reason(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_prompt(text)


def test_importing_the_plugin_imports_no_torch() -> None:
    code = "import dfw_geometry, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
