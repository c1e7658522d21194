"""Where Gaussians start, how they die, move and grow in number, and what a checkpoint holds of that."""

import math

import pytest
import torch
from clouds import camera, gaussians, renderer, single
from dreamfw_gaussians.geometry import Gaussians
from dreamfw_gaussians.relocation import MOST, choose_hosts, shared
from dreamfw_gaussians.scene import DEAD
from pydantic import ValidationError

from dfw import Progress


def start(seed=0, **options):
    geometry = Gaussians(Gaussians.Config(**options))
    geometry.initialise(torch.Generator().manual_seed(seed))
    return geometry


def bits(geometry):
    return {name: value.clone() for name, value in geometry.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_they_start_uniform_in_a_ball():
    geometry = start(capacity=6000, initial=4000, radius=0.5, opacity=0.2)
    cloud = geometry.cloud()
    reach = cloud.mean[:4000].norm(dim=-1)
    assert reach.max() < 0.5
    assert ((reach / 0.5) ** 3).mean().item() == pytest.approx(0.5, abs=0.02)  # the cube of the radius is uniform
    assert cloud.mean[:4000].mean(0).abs().max() < 0.02
    volume = (4 / 3) * math.pi * 0.5**3
    assert cloud.scale[0, 0].item() ** 3 == pytest.approx(volume / 4000, rel=1e-4)
    torch.testing.assert_close(cloud.opacity[:4000], torch.full((4000,), 0.2))
    assert (~geometry.dead()).sum() == 4000
    assert (cloud.opacity[4000:] < 1 / 255).all()


def test_the_same_seed_gives_the_same_start_and_another_seed_another():
    assert same(bits(start(3)), bits(start(3)))
    assert not torch.equal(start(3).means, start(4).means)
    assert not torch.equal(start(3).random_state, start(4).random_state)


def test_slots_not_in_use_are_not_drawn_and_get_no_gradient():
    geometry = gaussians(20, capacity=50)
    renderer()(geometry, camera(0.0, dtype=torch.float32)).colour.sum().backward()
    for parameter in geometry.parameters():
        assert parameter.grad[:20].abs().max() > 0
        assert parameter.grad[20:].abs().max() == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7, MOST])
@pytest.mark.parametrize("opacity", [0.01, 0.5, 0.97])
def test_sharing_keeps_the_centre_and_the_integral(opacity, count):
    """Along a line through the centre, n copies give 1 - (1 - o' exp(-x^2 / 2 s'^2))^n; its integral is o s sqrt(2 pi)."""
    fresh, factor = shared(torch.tensor([opacity], dtype=torch.float64), torch.tensor([count]))
    assert 1 - (1 - fresh.item()) ** count == pytest.approx(opacity, rel=1e-12)
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64) * factor
    profile = 1 - (1 - fresh * torch.exp(-0.5 * (x / factor) ** 2)) ** count
    integral = torch.trapezoid(profile, x).item()
    assert integral == pytest.approx(opacity * math.sqrt(2 * math.pi), rel=1e-6)


def test_hosts_are_drawn_in_proportion_to_opacity():
    opacity = torch.tensor([0.6, 0.001, 0.3, 0.001, 0.0] + [0.001] * 3000, dtype=torch.float64)
    dead = opacity <= DEAD
    moved, host = choose_hosts(opacity, dead, wanted=3002, generator=torch.Generator().manual_seed(0))
    assert len(moved) == 3000
    assert moved[:3].tolist() == [1, 3, 4]
    assert set(host.tolist()) == {0, 2}
    assert (host == 0).double().mean().item() == pytest.approx(2 / 3, abs=0.03)


def test_none_moves_when_none_is_missing_or_none_lives():
    generator = torch.Generator()
    opacity = torch.tensor([0.5, 0.5, 0.001])
    assert len(choose_hosts(opacity, opacity <= DEAD, 2, generator)[0]) == 0
    assert len(choose_hosts(opacity, torch.ones(3, dtype=torch.bool), 3, generator)[0]) == 0


def test_relocation_moves_the_dead_and_leaves_the_picture_as_it_was():
    """With spread 0 the copies are where the host is: far and faint Gaussians vanish, and opacity at the centre stays."""
    plan = {"growth": 1, "spread": 0}
    geometry = Gaussians(Gaussians.Config(capacity=4, initial=4, relocation=plan)).double()
    source = single(mean=[[0.0, 0.0, 0.0], [0.1, 0.2, 0.3], [0.0, 5.0, 0.0], [0.1, 0.1, 0.1]], opacity=[0.6, 0.004, 0.9, 0.004])
    geometry.load_state_dict(source.state_dict() | {"random_state": geometry.random_state})
    assert geometry.dead().tolist() == [False, True, True, True]
    before = renderer()(geometry, camera(0.0, elevation=0.0, height=21, width=21))
    assert geometry.relocate() == 3
    assert not geometry.dead().any()
    cloud = geometry.cloud()
    torch.testing.assert_close(cloud.mean, torch.zeros(4, 3, dtype=torch.float64))
    torch.testing.assert_close(cloud.opacity, torch.full((4,), 1 - 0.4**0.25, dtype=torch.float64))
    after = renderer()(geometry, camera(0.0, elevation=0.0, height=21, width=21))
    torch.testing.assert_close(after.opacity[0, 10, 10], before.opacity[0, 10, 10], rtol=1e-9, atol=0)
    torch.testing.assert_close(after.opacity.sum(), before.opacity.sum(), rtol=0.1, atol=0)
    assert geometry.relocate() == 0


def test_moved_gaussians_spread_around_their_host():
    plan = {"growth": 2, "spread": 0.5}
    geometry = Gaussians(Gaussians.Config(capacity=4000, initial=2000, relocation=plan))
    geometry.initialise(torch.Generator().manual_seed(0))
    turn = math.sqrt(0.5)
    with torch.no_grad():
        geometry.means.zero_()
        geometry.scales.copy_(torch.tensor([0.2, 0.02, 0.02]).log())
        geometry.rotations.copy_(torch.tensor([turn, 0, 0, turn]))  # a quarter turn about z: long along y
        geometry.opacities[:2000] = 0.0
    geometry.relocate()
    deviation = geometry.means[2000:].std(0)
    scale = geometry.scales[2000:].exp()
    assert scale[:, 0].std() > 0  # a host shared by more is smaller
    assert (deviation[1] / scale[:, 0].square().mean().sqrt()).item() == pytest.approx(0.5, abs=0.05)
    assert (deviation[0] / scale[:, 1].square().mean().sqrt()).item() == pytest.approx(0.5, abs=0.05)


def test_their_number_grows_to_the_capacity():
    geometry = start(capacity=100, initial=40, relocation={"every": 10, "start": 0.2, "end": 0.6, "growth": 1.5})
    counts = []
    for step in range(100):
        geometry.begin_step(Progress(step, 100), torch.Generator())
        counts.append(int((~geometry.dead()).sum()))
    assert [counts[s] for s in (0, 19, 20, 29, 30, 40, 50, 60, 99)] == [40, 40, 60, 60, 90, 100, 100, 100, 100]


def test_a_geometry_restored_from_its_state_relocates_to_the_same_bits():
    one = start(capacity=300, initial=100)
    one.relocate()
    two = Gaussians(one.config)
    two.load_state_dict(bits(one))
    assert one.relocate() == two.relocate() > 0
    assert same(bits(one), bits(two))
    three = Gaussians(one.config)
    three.load_state_dict(bits(two) | {"random_state": torch.Generator().manual_seed(1).get_state()})
    two.relocate()
    three.relocate()
    assert not torch.equal(two.means, three.means)


def test_relocation_touches_no_global_generator():
    geometry = start(capacity=300, initial=100)
    before = torch.random.get_rng_state()
    geometry.relocate()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capacity": 10, "initial": 11}, "11 Gaussians do not fit into capacity: 10"),
        ({"radius": 2.0}, "beyond bound: 1.1, where Gaussians are dead"),
        ({"relocation": {"start": 0.5, "end": 0.4}}, "lies before start"),
        ({"opacity": 0.004}, "greater than 0.005"),
    ],
)
def test_configurations_that_cannot_work_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        Gaussians.Config(**options)
