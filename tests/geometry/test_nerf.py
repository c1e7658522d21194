"""The NeRF: gradients everywhere, what it keeps and promises, and what its configuration refuses."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from nerfs import ENCODINGS, by_encoding, cube, make, seeded
from pydantic import ValidationError
from torch import Tensor

from dfw import Progress
from dfw_geometry.nerf import NeRF


def total(nerf: NeRF, points: Tensor) -> Tensor:
    """A scalar of all outputs, with fixed random factors."""
    sample = nerf.sample(points, normals=True)
    assert sample.normal is not None
    factor = torch.randn(len(points), 7, dtype=torch.float64, generator=seeded(8)).to(points.dtype)
    parts = torch.cat([sample.density[:, None] / 10, sample.albedo, sample.normal], dim=-1)
    return (parts * factor).sum()


@by_encoding
@pytest.mark.parametrize("normals", ["analytic", "finite-difference"])
def test_gradients_reach_parameters_through_all_outputs(encoding: dict[str, object], normals: str) -> None:
    """The directional derivative along random parameter directions, by central differences in float64."""
    nerf = make(True, encoding=encoding, normals=normals).double()
    points = cube(30, 0.6, torch.float64)
    parameters = list(nerf.parameters())
    scale = [0.1 * p.detach().std() if p.numel() > 1 and p.detach().std() > 0 else torch.tensor(0.1) for p in parameters]
    directions = [
        s * torch.randn(p.shape, dtype=torch.float64, generator=seeded(4)) for p, s in zip(parameters, scale, strict=True)
    ]
    gradients = torch.autograd.grad(total(nerf, points), parameters)
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))

    def moved(s: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=s)
        value = float(total(nerf, points).detach())
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=s)
        return value

    assert analytic == pytest.approx((moved(1e-6) - moved(-1e-6)) / 2e-6, rel=2e-4)


def test_float32_kernels_agree_with_float64_torch() -> None:
    nerf = make(True, encoding=ENCODINGS[0])
    twin = make(True, encoding=ENCODINGS[0]).double()
    points = cube(300, 0.6)
    total(nerf, points).backward()
    total(twin, points.double()).backward()
    for (name, p), q in zip(nerf.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert (p.grad - q.grad).abs().max() < 1e-3 * q.grad.abs().max(), name


@by_encoding
@pytest.mark.parametrize("normals", ["analytic", "finite-difference"])
def test_every_parameter_gets_a_gradient_on_the_first_step(encoding: dict[str, object], normals: str) -> None:
    nerf = make(encoding=encoding, normals=normals)
    total(nerf, cube(500, 0.6)).backward()
    for name, parameter in nerf.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


@by_encoding
@pytest.mark.parametrize("normals", ["analytic", "finite-difference"])
def test_without_grad_mode(encoding: dict[str, object], normals: str) -> None:
    nerf = make(True, encoding=encoding, normals=normals).eval()
    points = cube(20)
    tracked = nerf.sample(points, normals=True)
    with torch.no_grad():
        free = nerf.sample(points, normals=True)
    for a, b in ((tracked.density, free.density), (tracked.albedo, free.albedo), (tracked.normal, free.normal)):
        assert a is not None
        assert b is not None
        assert a.requires_grad
        assert not b.requires_grad
        assert torch.allclose(a, b, atol=1e-5)
    assert all(p.grad is None for p in nerf.parameters())
    assert not points.requires_grad
    assert nerf.sample(points).normal is None


@by_encoding
def test_shapes_and_no_points(encoding: dict[str, object]) -> None:
    nerf = make(encoding=encoding)
    for shape in ((), (4,), (2, 3), (2, 0), (0,)):
        points = torch.zeros(*shape, 3)
        sample = nerf.sample(points, normals=True)
        assert sample.density.shape == nerf.density(points).shape == shape
        assert sample.albedo.shape == (*shape, 3)
        assert sample.normal is not None
        assert sample.normal.shape == (*shape, 3)
    total(nerf, torch.zeros(0, 3)).backward()


def test_points_may_need_gradients_too() -> None:
    nerf = make(True, encoding=ENCODINGS[0]).double()
    points = cube(5, 0.6, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: nerf.sample(p, normals=True).normal, (points,), eps=1e-7, atol=1e-4)
    assert torch.autograd.gradcheck(nerf.density, (points,), eps=1e-7, atol=1e-4)


def test_density_leaves_the_colour_alone() -> None:
    nerf = make()
    calls: list[int] = []
    nerf.colour_network.register_forward_hook(lambda *_: calls.append(1))
    points = cube(5)
    density = nerf.density(points)
    assert not calls
    assert torch.equal(density, nerf.sample(points).density)
    assert calls == [1]


def test_albedo_is_a_colour_and_starts_grey() -> None:
    albedo = make().sample(cube(100)).albedo
    assert ((albedo > 0) & (albedo < 1)).all()
    assert (albedo - 0.5).abs().max() < 0.01


def test_parameters_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = make(), make()
    assert torch.equal(before, torch.get_rng_state())
    other = NeRF(NeRF.Config())
    other.initialise(seeded(1))
    for p, q, r in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.dim() < 2 or not torch.equal(p, r)


@by_encoding
def test_parameter_groups_cover_everything_once(encoding: dict[str, object]) -> None:
    nerf = make(encoding=encoding)
    groups = nerf.parameter_groups()
    assert set(groups) <= {"geometry.encoding", "geometry.network"}
    assert ("geometry.encoding" in groups) == (encoding["type"] != "integrated-positional")
    listed = [id(p) for group in groups.values() for p in group]
    assert sorted(listed) == sorted(id(p) for p in nerf.parameters())
    assert all(groups.values())


def test_coarse_to_fine_fades_levels_in() -> None:
    nerf = make(encoding=ENCODINGS[0], coarse_to_fine={"start_levels": 2, "end": 0.5})
    points = cube(200)
    for step, expected in (
        (0, [1, 1, 0, 0]),
        (125, [1, 1, 0.5, 0]),
        (250, [1, 1, 1, 0]),
        (375, [1, 1, 1, 0.5]),
        (500, [1] * 4),
        (999, [1] * 4),
    ):
        nerf.begin_step(Progress(step, 1000), seeded())
        assert nerf.level_weights is not None
        assert nerf.level_weights.tolist() == expected
    nerf.begin_step(Progress(0, 1000), seeded())
    nerf.sample(points, normals=True).density.sum().backward()
    table, layout = nerf.encoding.table, nerf.encoding.layout
    assert table.grad[: layout[2, 1]].abs().sum() > 0
    assert table.grad[layout[2, 1] :].abs().sum() == 0
    assert "level_weights" in nerf.state_dict()
    assert "level_weights" not in make().state_dict()


def test_coarse_to_fine_starts_later_and_switches_levels_on() -> None:
    """threestudio's dreamfusion-sd: 8 of 16 levels until step 2,000 of 10,000, then one more every 500 steps."""
    plan = {"start_levels": 8, "start": 0.2, "end": 0.6, "fade": False}
    encoding = {"type": "hash-grid", "levels": 16, "features": 1, "log2_size": 6, "base": 2, "finest": 32}
    nerf = make(encoding=encoding, coarse_to_fine=plan)
    for step in (0, 1_999, 2_000, 2_499, 2_500, 3_499, 3_500, 5_999, 6_000, 9_999):
        nerf.begin_step(Progress(step, 10_000), seeded())
        levels = min(8 + max(step - 2_000, 0) // 500, 16)
        assert nerf.level_weights is not None
        assert nerf.level_weights.tolist() == [1.0] * levels + [0.0] * (16 - levels)
    with pytest.raises(ValidationError, match="start < end"):
        NeRF.Config.model_validate({"coarse_to_fine": {"start": 0.5, "end": 0.5}})


def test_saved_parameters_give_the_same_bits() -> None:
    nerf, other = make(True), NeRF(NeRF.Config())
    other.load_state_dict(nerf.state_dict())
    points = cube(100)
    assert torch.equal(nerf.density(points), other.density(points))


def test_mixed_precision_keeps_float32_outputs() -> None:
    nerf = make(True)
    points = cube(100, 0.6)
    exact = nerf.sample(points, normals=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sample = nerf.sample(points, normals=True)
        loss = sample.density.sum() + sample.albedo.sum() + sample.normal.sum()
    loss.backward()
    assert sample.density.dtype == sample.albedo.dtype == sample.normal.dtype == torch.float32
    assert (sample.normal * exact.normal).sum(-1).mean() > 0.99
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in nerf.parameters())


def test_a_solid_density_is_reached_quickly() -> None:
    """100 Adam steps towards an off-centre ball of density 75: above 50 inside, below 5 well outside."""
    nerf = make()
    groups = nerf.parameter_groups()
    optimiser = torch.optim.Adam(
        [{"params": groups["geometry.encoding"], "lr": 1e-2}, {"params": groups["geometry.network"], "lr": 1e-2}], eps=1e-15
    )
    centre, generator = torch.tensor([0.4, 0.0, 0.2]), seeded(3)
    for _ in range(100):
        points = torch.rand(2048, 3, generator=generator) * 2 - 1
        inside = (points - centre).norm(dim=-1) < 0.4
        loss = (1 - torch.exp(-0.027 * nerf.density(points)) - inside.float() * (1 - math.exp(-0.027 * 75))).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    points = cube(4000)
    distance = (points - centre).norm(dim=-1)
    density = nerf.density(points).detach()
    assert density[distance < 0.3].mean() > 50
    assert density[distance > 0.5].mean() < 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "hashgrid"}, "hash-grid"),
        ({"encoding": {"base": 64, "finest": 32}}, "write base <= finest"),
        ({"encoding": {"type": "dense-grid", "levels": 4}}, "levels"),
        ({"activation": "exp"}, "write at most"),
        ({"radius": 0}, "greater than 0"),
        ({"radus": 1}, "radus"),
        ({"normals": "predicted"}, "finite-difference"),
    ],
)
def test_bad_configurations_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        NeRF.Config.model_validate(options)


def test_short_forms() -> None:
    assert NeRF.Config.model_validate({"encoding": "hash-grid"}) == NeRF.Config()
    assert NeRF.Config.model_validate({"encoding": {"levels": 8}}) == NeRF.Config()
    assert NeRF.Config.model_validate({"encoding": "dense-grid"}).encoding.type == "dense-grid"
    assert NeRF.Config.model_validate({"blob": {"scale": 10}}) == NeRF.Config()
    assert "dense-grid" in str(NeRF.Config.model_json_schema())
    assert NeRF.provides(NeRF.Config()) == {"density-field"}
    assert NeRF.requires(NeRF.Config()) == frozenset()


def test_importing_the_nerf_does_not_import_warp() -> None:
    code = (
        "import sys, dfw_geometry.nerf as n; n.NeRF(n.NeRF.Config()); n.NeRF(n.NeRF.Config(encoding='dense-grid'));"
        "sys.exit('warp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
