"""The regularisers by hand-computed values and finite differences."""

from __future__ import annotations

import math

import loss_inputs
import pytest
import torch
from torch import Tensor

from dfw import ConfigError, RaySamples
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


def test_orientation_over_the_rays_that_hit_something() -> None:
    weight, normal = torch.tensor([1.0]), torch.tensor([tilted(180)])
    loss = Orientation(Orientation.Config(rays="hit"))

    def value(*opacity: float) -> float:
        return loss(loss_inputs.of_opacity(torch.tensor([[opacity]]), samples(weight, normal))).item()

    assert value(1.0, 0.0, 0.2, 0.0) == pytest.approx(0.5)
    assert value(1.0, 0.0, 0.0, 0.0) == pytest.approx(1)
    assert loss(loss_inputs.of_opacity(torch.zeros(1, 1, 4), samples(weight[:0], normal[:0]))).item() == 0


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
