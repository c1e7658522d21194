"""Backgrounds: shares and ranges of the random one, and the learned one's network against finite differences."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from render_fields import Blobs, nothing, turn

from dfw_renderers.background import Background, LearnedConfig, RandomConfig, SolidConfig, encode_direction
from dfw_renderers.volume import Volume


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(**options) -> Background:
    background = Background(LearnedConfig(**options))
    background.initialise(generator())
    return background


def views(count: int, size: int = 4) -> torch.Tensor:
    return F.normalize(torch.randn(count, size, size, 3, generator=generator(1)), dim=-1)


def test_solid_is_one_colour_and_draws_nothing():
    background, g = Background(SolidConfig(colour=(0.2, 0.4, 0.6))).train(), generator()
    before = g.get_state()
    colour = background(views(3), g).expand(3, 4, 4, 3)
    assert torch.allclose(colour, torch.tensor([0.2, 0.4, 0.6]).expand_as(colour))
    assert torch.equal(before, g.get_state())


def test_random_colours_in_their_share_of_the_views():
    background = Background(RandomConfig(probability=0.7, colour=(0.0, 0.0, 0.0))).train()
    colour = background(views(4000, 1), generator())[:, 0, 0]
    drawn = colour[colour.sum(-1) > 0]
    assert len(drawn) / 4000 == pytest.approx(0.7, abs=0.03)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.025)
    assert drawn.var(0).tolist() == pytest.approx([1 / 12] * 3, abs=0.01)


def test_a_random_colour_fills_its_view():
    background = Background(RandomConfig(probability=1.0)).train()
    colour = background(views(3), generator()).expand(3, 4, 4, 3)
    assert (colour == colour[:, :1, :1]).all()
    assert not torch.equal(colour[0], colour[1])


def test_evaluation_draws_nothing():
    background, g = Background(RandomConfig(probability=1.0, colour=(0.1, 0.2, 0.3))).eval(), generator()
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "random", "probability": 1.2},
        {"type": "solid", "colour": (2, 0, 0)},
        {"type": "sky"},
        {"type": "learned", "layers": 0},
    ],
)
def test_config_refuses(wrong):
    with pytest.raises(ValidationError):
        Volume.Config.model_validate({"background": wrong})
