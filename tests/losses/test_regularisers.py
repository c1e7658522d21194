"""The regularisers by hand-computed values and finite differences, and the pieces distillation losses share."""

from __future__ import annotations

import math

import loss_inputs
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from dfw import ConfigError, NoiseSchedule, Progress, RaySamples, Schedule
from dfw.distillation.gradient import with_gradient
from dfw.distillation.timesteps import check_range, sample_timesteps, timestep_range
from dfw.distillation.weighting import Weighting, weight_at
from dfw_losses.entropy import Entropy
from dfw_losses.opacity import Opacity
from dfw_losses.orientation import Orientation

VIEW = (0.0, 0.0, -1.0)  # every ray looks down


def samples(weight: Tensor, normal: Tensor) -> RaySamples:
    count = len(weight)
    direction = torch.tensor(VIEW, dtype=weight.dtype).expand(count, 3)
    return RaySamples(weight, torch.arange(count) // 2, torch.ones(count), direction, normal)


def orientation(weight: Tensor, normal: Tensor, rays: int = 4) -> Tensor:
    return Orientation(Orientation.Config())(loss_inputs.of_opacity(torch.ones(1, 1, rays), samples(weight, normal)))


def tilted(degrees: float) -> list[float]:
    """A unit normal that many degrees from +z; +z faces a camera that looks down."""
    return [math.sin(math.radians(degrees)), 0.0, math.cos(math.radians(degrees))]


def test_orientation_charges_only_what_faces_away() -> None:
    weight = torch.tensor([0.5, 0.25, 1.0, 0.125])
    normal = torch.tensor([tilted(0), tilted(180), tilted(120), tilted(89)])
    # facing the camera: 0; seen from behind: 1; 30 degrees past the rim: sin(30)^2; just this side of the rim: 0
    expected = (0.5 * 0 + 0.25 * 1 + 1.0 * 0.25 + 0.125 * 0) / 4
    assert orientation(weight, normal).item() == pytest.approx(expected, rel=1e-5)


def test_orientation_is_a_mean_over_rays_hit_or_not() -> None:
    weight, normal = torch.tensor([1.0]), torch.tensor([tilted(180)])
    assert orientation(weight, normal, rays=4).item() == pytest.approx(0.25)
    assert orientation(weight, normal, rays=8).item() == pytest.approx(0.125)
    assert orientation(weight[:0], normal[:0]).item() == 0


def test_orientation_moves_normals_and_never_weights() -> None:
    weight = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    normal = torch.tensor([tilted(150), tilted(100)], dtype=torch.float64, requires_grad=True)
    orientation(weight, normal).backward()
    assert weight.grad is None
    away = -normal.detach()[:, 2]
    expected = torch.zeros(2, 3, dtype=torch.float64)
    expected[:, 2] = 0.5 * 2 * away * -1 / 4
    torch.testing.assert_close(normal.grad, expected)


def test_orientation_without_normals_says_what_to_turn_on() -> None:
    with pytest.raises(ConfigError, match=r"orientation.*normals"):
        Orientation(Orientation.Config())(loss_inputs.of_opacity(torch.ones(1, 2, 2)))


def test_opacity_by_hand() -> None:
    value = Opacity(Opacity.Config())(loss_inputs.of_opacity(torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])))
    assert value.item() == pytest.approx((0.1 + math.sqrt(1.01) + math.sqrt(0.26) + 0.1) / 4, rel=1e-6)


def test_entropy_by_hand() -> None:
    def entropy(*opacity: float) -> float:
        return Entropy(Entropy.Config())(loss_inputs.of_opacity(torch.tensor(opacity).view(1, 1, -1))).item()

    assert entropy(0.5) == pytest.approx(1)
    assert entropy(0.25, 0.75) == pytest.approx(2 - 0.75 * math.log2(3), rel=1e-6)
    assert entropy(0, 1) == pytest.approx(0, abs=2e-4)


def test_entropy_pushes_to_the_nearer_end_and_stays_finite() -> None:
    opacity = torch.tensor([0.0, 0.2, 0.8, 1.0]).view(1, 1, 4).requires_grad_()
    Entropy(Entropy.Config())(loss_inputs.of_opacity(opacity)).backward()
    assert opacity.grad is not None
    pull = -opacity.grad.flatten()
    expected = math.log2(0.2 / 0.8) / 4
    torch.testing.assert_close(pull, torch.tensor([0.0, expected, -expected, 0.0]))


@pytest.mark.parametrize("loss", [Opacity(Opacity.Config()), Entropy(Entropy.Config())])
def test_gradients_by_finite_differences(loss: Opacity | Entropy) -> None:
    opacity = torch.linspace(0.05, 0.95, 6, dtype=torch.float64).view(1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: loss(loss_inputs.of_opacity(value)), (opacity,))


@pytest.mark.parametrize(
    ("loss", "features"), [(Orientation, {"ray-samples", "normals"}), (Opacity, {"opacity"}), (Entropy, {"opacity"})]
)
def test_regularisers_say_what_they_need(loss: type[Orientation | Opacity | Entropy], features: set[str]) -> None:
    assert loss.requires(loss.Config()) == features


def test_the_given_gradient_arrives_exactly_and_the_value_is_half_its_square() -> None:
    generator = torch.Generator().manual_seed(0)
    z = (1e4 * torch.randn(3, 4, 2, 2, generator=generator)).requires_grad_()
    gradient = 1e-3 * torch.randn(3, 4, 2, 2, generator=generator)
    value = with_gradient(z, gradient)
    assert value.item() == pytest.approx(gradient.square().sum().item() / 6, rel=1e-5)
    value.backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, gradient / 3, rtol=1e-6, atol=0)  # z - (z - gradient) would have lost it


def test_timesteps_fill_their_range_evenly() -> None:
    drawn = sample_timesteps(80_000, 20, 27, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert drawn.dtype == torch.int64
    share = torch.bincount(drawn, minlength=30).double() / 80_000
    assert share[:20].sum() == share[28:].sum() == 0
    assert (share[20:28] - 1 / 8).abs().max() < 5 * math.sqrt(1 / 8 * 7 / 8 / 80_000)


def ramp(written: dict[str, object]) -> Schedule:
    """A ramp as a configuration gives it."""
    return TypeAdapter(Schedule).validate_python(written)


def test_timestep_range_follows_the_ramp_and_stays_below_the_end() -> None:
    falling = ramp({"from": 0.98, "to": 0.5, "end": 0.5})
    found = [timestep_range(0.02, falling, 1000, Progress(step, 100)) for step in (0, 25, 50, 99)]
    assert found == [(20, 980), (20, 740), (20, 500), (20, 500)]
    assert timestep_range(0.0, 1.0, 1000, Progress(0, 1)) == (0, 999)
    assert timestep_range(1.0, 1.0, 1000, Progress(0, 1)) == (999, 999)


@pytest.mark.parametrize(("low", "high"), [(0.98, 0.02), (-0.1, 0.5), (0.1, 1.5)])
def test_a_wrong_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="DreamFusion"):
        check_range(low, high)


def test_ramps_that_cross_on_the_way_are_caught() -> None:
    sinking = ramp({"from": 0.9, "to": 0.5, "end": 0.1})
    rising = ramp({"from": 0.1, "to": 0.5, "end": 0.1, "ease": "sqrt"})
    check_range(rising, sinking)
    staying = ramp({"from": 0.8, "to": 0.1, "start": 0.9})
    check_range(staying, sinking)
    with pytest.raises(ConfigError, match="t_min passes t_max at step 50"):
        timestep_range(staying, sinking, 1000, Progress(50, 100))


@pytest.mark.parametrize(
    ("name", "expected"), [("sigma2", 0.64), ("one", 1.0), ("alpha-sigma2", 0.384), ("sigma-over-alpha", 4 / 3)]
)
def test_weights_by_hand(name: Weighting, expected: float) -> None:
    schedule = NoiseSchedule.from_alphas_cumprod(torch.tensor([0.9, 0.36]))  # alpha = 0.6, sigma = 0.8 at t = 1
    weight = weight_at(name, schedule, torch.tensor([1, 1]), torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    assert weight.shape == (2, 1, 1, 1)
    assert weight.dtype == torch.float64
    torch.testing.assert_close(weight, torch.full_like(weight, expected), rtol=1e-6, atol=0)
