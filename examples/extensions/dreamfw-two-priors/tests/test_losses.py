"""The picture's losses against values worked out by hand, and what is said of views that show nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from dreamfw_two_priors.losses import Mask, Picture
from torch import Tensor

from dfw import ComponentConfig, ConfigError, LossInputs, Progress, RenderOutput, Views, orbit


def inputs(colour: Tensor, opacity: Tensor, targets: Mapping[str, Tensor], of: str = "colour") -> LossInputs:
    """One step of a run without guidance, that sees one view."""
    views = Views(orbit(len(colour), 0.0, 3.0, 40.0, colour.shape[1], colour.shape[2]), targets)
    render = RenderOutput(colour, opacity, torch.zeros_like(opacity))
    return LossInputs(render, views, None, None, Progress(0, 1), torch.Generator(), of=of)


@pytest.fixture
def two_pixels() -> LossInputs:
    """A view of 1 x 2 pixels: the left one on the object, the right one half on its edge."""
    colour = torch.tensor([[[[0.5, 0.2, 0.0], [1.0, 1.0, 1.0]]]], dtype=torch.float64, requires_grad=True)
    opacity = torch.tensor([[[0.75, 0.0]]], dtype=torch.float64, requires_grad=True)
    picture = torch.tensor([[[[0.1, 0.2, 0.2], [0.2, 0.4, 1.0]]]])
    return inputs(colour, opacity, {"colour": picture, "mask": torch.tensor([[[1.0, 0.5]]])})


def test_the_picture_is_compared_inside_its_mask(two_pixels: LossInputs) -> None:
    """(0.16 + 0 + 0.04 + 0.25 (0.64 + 0.36 + 0)) / 6 = 0.075."""
    assert Picture(ComponentConfig())(two_pixels).item() == pytest.approx(0.075, rel=1e-6)


def test_the_mask_is_compared_everywhere(two_pixels: LossInputs) -> None:
    """(0.0625 + 0.25) / 2 = 0.15625."""
    assert Mask(ComponentConfig())(two_pixels).item() == pytest.approx(0.15625)


@pytest.mark.parametrize("kind", [Picture, Mask])
def test_gradients_are_differences(two_pixels: LossInputs, kind: type[Picture | Mask]) -> None:
    loss, render = kind(ComponentConfig()), two_pixels.render

    def value(colour: Tensor, opacity: Tensor) -> Tensor:
        return loss(inputs(colour, opacity, two_pixels.views.targets))

    assert torch.autograd.gradcheck(value, (render.colour, render.opacity))


def test_outside_the_mask_any_colour_will_do() -> None:
    """A hundred pictures' worth of difference behind the object adds nothing, and has no gradient."""
    colour = torch.rand(2, 4, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.zeros(2, 4, 4)
    mask[:, :, :2] = 1
    picture = torch.where(mask[..., None] > 0, colour.detach(), 1 - colour.detach())
    value = Picture(ComponentConfig())(inputs(colour, torch.ones(2, 4, 4), {"colour": picture, "mask": mask}))
    assert value.item() == 0
    (gradient,) = torch.autograd.grad(value, colour)
    assert not gradient.any()


def test_without_a_mask_all_of_the_picture_counts() -> None:
    colour, black = torch.full((1, 2, 2, 3), 0.5, requires_grad=True), torch.zeros(1, 2, 2, 3)
    assert Picture(ComponentConfig())(inputs(colour, torch.ones(1, 2, 2), {"colour": black})).item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("kind", "targets", "of", "told"),
    [
        (Picture, {}, "colour", r"picture: its views have no colour to compare with; write views: NAME"),
        (Mask, {"colour": torch.zeros(1, 2, 2, 3)}, "colour", r"mask: its views have no mask to compare with"),
        (Picture, {"colour": torch.zeros(1, 3, 3, 3)}, "colour", r"the render has shape \(1, 2, 2, 3\) and the views' colour"),
        (Picture, {"colour": torch.zeros(1, 2, 2, 3)}, "depth", r"picture: compares colours, not depth; leave `of` out"),
    ],
)
def test_what_cannot_be_compared_is_said(kind: type[Picture | Mask], targets: Mapping[str, Tensor], of: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        kind(ComponentConfig())(inputs(torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2), targets, of))
