"""Total variation of pictures and the eikonal penalty by hand-computed values."""

from __future__ import annotations

from dataclasses import replace

import loss_inputs
import pytest
import torch
from torch import Tensor

from dfw import LossInputs, RenderOutput
from dfw_losses.tv import TV


def inputs(colour: Tensor, opacity: Tensor, of: str = "colour", normal: Tensor | None = None) -> LossInputs:
    step = loss_inputs.of_opacity(opacity)
    return replace(step, render=RenderOutput(colour, opacity, torch.zeros_like(opacity), normal), of=of)


def tv(colour: Tensor, opacity: Tensor | None = None, of: str = "colour", normal: Tensor | None = None) -> float:
    return float(TV(TV.Config())(inputs(colour, torch.ones(colour.shape[:3]) if opacity is None else opacity, of, normal)))


def test_a_ramp_has_its_slope_on_half_of_the_pairs() -> None:
    """c = a x along one axis of n x n pixels: |a| summed over channels on the n (n - 1) pairs along it, 0 on as many across."""
    ramp = (torch.arange(4.0)[None, None, :, None] * torch.tensor([0.1, -0.2, 0.05])).expand(2, 4, 4, 3)
    for turned in (ramp, ramp.transpose(1, 2)):
        assert tv(turned) == pytest.approx(0.35 / 2, rel=1e-6)


def test_an_edge_costs_its_height_however_wide_it_is() -> None:
    for profile in ([0.0, 0, 1, 1], [0.0, 1 / 3, 2 / 3, 1]):
        picture = torch.tensor(profile)[None, None, :, None] * torch.tensor([0.0, 0, 1]).expand(1, 2, 4, 3)
        assert tv(picture) == pytest.approx(2 / 10, rel=1e-6)


def test_background_and_silhouette_cost_nothing() -> None:
    """Noise behind a square of one colour; one noisy pixel inside it counts with its two neighbours there."""
    picture = torch.rand(1, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    solid = torch.zeros(1, 4, 4)
    solid[:, :2, :2] = 1
    picture[:, :2, :2] = 0.25
    assert tv(picture, solid) == 0
    picture[:, 0, 0] = 0.75
    assert tv(picture, solid) == pytest.approx(2 * 1.5 / 24)


def test_the_opacity_itself_may_be_smoothed() -> None:
    """A column of 1 between columns of 0: two edges of 3 channels in each of 3 rows, over 12 pairs."""
    opacity = torch.tensor([0.0, 1, 0]).expand(1, 3, 3)
    assert tv(torch.zeros(1, 3, 3, 3), opacity, of="opacity") == pytest.approx(2 * 3 * 3 / 12)


def test_normals_count_as_their_picture() -> None:
    """(n + 1)/2: half the difference of the normals."""
    normal = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).view(1, 1, 2, 3)
    assert tv(torch.zeros(1, 1, 2, 3), of="normal", normal=normal) == pytest.approx(1.0)


def test_the_gradient_reaches_the_picture_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(2, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    opacity = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: TV(TV.Config())(inputs(c, opacity.detach())), colour)
    TV(TV.Config())(inputs(colour, opacity)).backward()
    assert opacity.grad is None


def test_one_pixel_has_no_neighbours() -> None:
    assert tv(torch.rand(1, 1, 1, 3)) == 0


def test_a_square_counts_a_wide_edge_less_than_a_sharp_one() -> None:
    """One step of 1, or three of a third: 1 or 3/9 in each of 2 rows, over 10 pairs; in one channel."""
    for profile, cost in (([0.0, 0, 1, 1], 1), ([0.0, 1 / 3, 2 / 3, 1], 1 / 3)):
        picture = torch.tensor(profile)[None, None, :, None] * torch.tensor([0.0, 0, 1]).expand(1, 2, 4, 3)
        found = TV(TV.Config(power=2))(inputs(picture, torch.ones(picture.shape[:3])))
        assert float(found) == pytest.approx(2 * cost / 10, rel=1e-6)
