"""Backgrounds: shares and ranges of the random one, and the learned one's network against finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from render_fields import Blobs, nothing, turn

import dfw
from dfw import Background
from dfw.errors import DfwError
from dfw_renderers.background import Checker, Learned, Random, Solid, encode_direction
from dfw_renderers.volume import Volume


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(**options) -> Background:
    background = Learned(Learned.Config(**options))
    background.initialise(generator())
    return background


def views(count: int, size: int = 4) -> torch.Tensor:
    return F.normalize(torch.randn(count, size, size, 3, generator=generator(1)), dim=-1)


def test_solid_is_one_colour_and_draws_nothing():
    background, g = Solid(Solid.Config(colour=(0.2, 0.4, 0.6))).train(), generator()
    before = g.get_state()
    colour = background(views(3), g).expand(3, 4, 4, 3)
    assert torch.allclose(colour, torch.tensor([0.2, 0.4, 0.6]).expand_as(colour))
    assert torch.equal(before, g.get_state())


def test_random_colours_in_their_share_of_the_views():
    background = Random(Random.Config(probability=0.7, colour=(0.0, 0.0, 0.0))).train()
    colour = background(views(4000, 1), generator())[:, 0, 0]
    drawn = colour[colour.sum(-1) > 0]
    assert len(drawn) / 4000 == pytest.approx(0.7, abs=0.03)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.025)
    assert drawn.var(0).tolist() == pytest.approx([1 / 12] * 3, abs=0.01)


def test_a_random_colour_fills_its_view():
    background = Random(Random.Config(probability=1.0)).train()
    colour = background(views(3), generator()).expand(3, 4, 4, 3)
    assert (colour == colour[:, :1, :1]).all()
    assert not torch.equal(colour[0], colour[1])


def test_a_shared_colour_fills_all_views_of_a_step():
    background, g = Random(Random.Config(probability=1.0, shared=True)).train(), generator()
    first, second = (background(views(3), g).expand(3, 4, 4, 3) for _ in range(2))
    assert (first == first[0, 0, 0]).all()
    assert not torch.equal(first, second)
    steps = torch.stack([learned(random_probability=0.5, shared=True).train()(views(3), generator(seed)) for seed in range(40)])
    plain = (steps == steps[:, :, :1, :1]).flatten(2).all(2)
    assert (plain.all(1) | ~plain.any(1)).all()
    assert 8 <= int(plain.all(1).sum()) <= 32


def test_evaluation_draws_nothing():
    background, g = Random(Random.Config(probability=1.0, colour=(0.1, 0.2, 0.3))).eval(), generator()
    before = g.get_state()
    assert background(views(2), g).flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(before, g.get_state())


def test_encoding_by_hand():
    encoded = encode_direction(torch.tensor([[0.6, 0.0, 0.8]]), 2)[0]
    expected = [0.6, 0, 0.8, *torch.tensor([0.6, 0, 0.8, 1.2, 0, 1.6]).sin(), *torch.tensor([0.6, 0, 0.8, 1.2, 0, 1.6]).cos()]
    assert encoded.tolist() == pytest.approx([float(x) for x in expected])


def test_learned_has_the_papers_size_and_its_own_group():
    renderer = Volume(Volume.Config.model_validate({"background": "learned"}))
    groups = renderer.parameter_groups()
    assert list(groups) == ["renderer.background"]
    shapes = [tuple(p.shape) for p in groups["renderer.background"] if p.dim() == 2]
    assert shapes == [(64, 27), (64, 64), (64, 64), (3, 64)]
    assert Volume(Volume.Config()).parameter_groups() == {}


def test_learned_starts_near_grey_from_its_generator():
    one, two = learned(), learned()
    colour = one(views(2))
    assert torch.equal(colour, two(views(2)))
    assert (colour - 0.5).abs().max() < 0.25
    assert colour.std() > 0


def test_learned_depends_on_the_direction_alone():
    background = learned().eval()
    direction = views(1)
    assert torch.allclose(background(direction), background(direction.flip(1)).flip(1))


def test_random_colours_before_a_learned_background():
    background = learned(random_probability=0.5).train()
    direction = views(400, 2)
    own, shown = background.eval()(direction), background.train()(direction, generator())
    same = (own == shown).flatten(1).all(1)
    assert same.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (shown[~same] == shown[~same][:, :1, :1]).all()


def test_gradients_of_the_network_by_finite_differences():
    background = learned(width=5, layers=2, frequencies=1).double()
    direction = views(1, 2).double()
    names = [name for name, _ in background.named_parameters()]

    def colours(*parameters):
        return torch.func.functional_call(background, dict(zip(names, parameters, strict=True)), (direction,))

    assert torch.autograd.gradcheck(colours, tuple(p.detach().requires_grad_() for p in background.parameters()))


def test_gradients_reach_it_where_the_scene_is_transparent():
    renderer = Volume(Volume.Config.model_validate({"background": "learned"})).train()
    renderer.initialise(generator())
    renderer(nothing(), turn(1, 4), generator()).colour.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in renderer.parameters())


def test_only_the_background_changes_the_empty_part():
    field, cameras = Blobs(), turn(1, 16)
    outputs = []
    for colour in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        renderer = Volume(Volume.Config.model_validate({"background": {"type": "solid", "colour": colour}})).eval()
        outputs.append(renderer(field, cameras))
    difference = outputs[1].colour - outputs[0].colour
    assert torch.allclose(difference, (1 - outputs[0].opacity)[..., None].expand_as(difference), atol=1e-6)


def test_random_draws_one_row_of_four_numbers_for_each_view():
    """Seed for seed the colours of earlier runs: three numbers are the colour, the fourth decides whether it is used."""
    background = Random(Random.Config(probability=0.4, colour=(0.1, 0.2, 0.3))).train()
    drawn = torch.rand(50, 4, generator=generator(7))
    expected = torch.where(drawn[:, 3:] < 0.4, drawn[:, :3], torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(background(views(50, 2), generator(7))[:, 0, 0], expected)


def test_learned_draws_its_weights_layer_by_layer():
    """Seed for seed the weights of earlier runs, and the same draws for random colours as `random` makes."""
    g, background = generator(), learned(layers=2, width=5, frequencies=1, random_probability=0.4)
    bounds = [math.sqrt(6 / 9), math.sqrt(6 / 5), 0.1 * math.sqrt(6 / 5)]
    for weight, bias, bound in zip(background.weights, background.biases, bounds, strict=True):
        assert torch.equal(weight, (2 * torch.rand(weight.shape, generator=g) - 1) * bound)
        assert not bias.any()
    drawn = torch.rand(50, 4, generator=generator(7))
    shown = background.train()(views(50, 1), generator(7))[:, 0, 0]
    random = drawn[:, 3] < 0.4
    assert torch.equal(shown[random], drawn[random, :3])
    assert torch.equal(shown[~random], background.eval()(views(50, 1))[:, 0, 0][~random])


def test_checker_by_hand():
    """Eight squares of 45 degrees: each step of one square in azimuth or in elevation changes the colour."""
    background, g = Checker(Checker.Config(colour=(1, 0, 0), other=(0, 0, 1), squares=8)).train(), generator()
    before = g.get_state()
    for azimuth, elevation, colour in [
        (10, 10, [1, 0, 0]),
        (55, 10, [0, 0, 1]),
        (10, 55, [0, 0, 1]),
        (55, 55, [1, 0, 0]),
        (100, 10, [1, 0, 0]),
        (-10, 10, [0, 0, 1]),
        (10, -10, [0, 0, 1]),
    ]:
        a, e = math.radians(azimuth), math.radians(elevation)
        direction = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)]).view(1, 1, 1, 3)
        assert background(direction, g).flatten().tolist() == colour, (azimuth, elevation)
    assert torch.equal(before, g.get_state())


@pytest.mark.parametrize("squares", [7, 8])
def test_checker_has_equal_squares_all_around(squares):
    """Eight colour changes 45 degrees apart, the one behind the scene among them; an odd number is rounded up."""
    around = torch.deg2rad(torch.arange(-180, 180) + 0.5)
    direction = torch.stack([around.cos(), around.sin(), torch.full_like(around, 0.1)], -1).view(1, 1, 360, 3)
    colour = Checker(Checker.Config(squares=squares))(direction)[0, 0, :, 0]
    assert (colour != colour.roll(1)).nonzero().flatten().tolist() == list(range(0, 360, 45))


def test_half_transparent_matter_shows_before_a_checkerboard():
    field, cameras = Blobs(), turn(1, 16)
    renderer = dfw.build("renderer", "volume", background={"type": "checker", "squares": 48}).eval()
    output, bare = renderer(field, cameras), dfw.build("renderer", "volume", background="solid").eval()(field, cameras)
    behind = renderer.background(cameras.rays().direction)
    assert len(behind.flatten(0, 2).unique(dim=0)) == 2
    expected = bare.colour - (1 - bare.opacity)[..., None] * (1 - behind)
    assert torch.allclose(output.colour, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"type": "random", "probability": 1.2}, r"background\.probability.*less than or equal to 1"),
        ({"type": "solid", "colour": (2, 0, 0)}, r"background\.colour\.0.*less than or equal to 1"),
        ({"type": "sky"}, r"no background named 'sky' \(renderer\.background\.type\)"),
        ({"type": "learned", "layers": 0}, r"background\.layers.*greater than 0"),
        ({"type": "checker", "squares": 0}, r"background\.squares.*greater than 0"),
    ],
)
def test_wrong_options_are_refused_with_their_path(wrong, words):
    with pytest.raises(DfwError, match=words):
        dfw.build("renderer", "volume", background=wrong)
