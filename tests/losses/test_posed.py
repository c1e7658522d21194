"""The losses of posed pictures against values worked out by hand, and what is said of views that show nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from dfw import ConfigError, LossInputs, Progress, RenderOutput, Views, orbit
from dfw.compose import compose
from dfw.config.load import load_config
from dfw_losses.posed import Depth, Mask, Normal, Picture, Posed


def inputs(targets: Mapping[str, Tensor], of: str = "colour", **shown: Tensor) -> LossInputs:
    """One step of a run without guidance, that sees `shown`. What is not given is 0, and 1 for the opacity."""
    pixels = next(iter(shown.values())).shape[:3]
    given = {"colour": torch.zeros(*pixels, 3), "opacity": torch.ones(pixels), "depth": torch.zeros(pixels)} | shown
    views = Views(orbit(pixels[0], 0.0, 3.0, 40.0, *pixels[1:]), targets)
    return LossInputs(RenderOutput(**given), views, None, None, Progress(0, 1), torch.Generator(), of=of)


def make(kind: type[Posed], **options: object) -> Posed:
    return kind(kind.Config(**options))


@pytest.fixture
def two_pixels() -> LossInputs:
    """A view of 1 x 2 pixels: the left one on the object, the right one half on its edge."""
    colour = torch.tensor([[[[0.5, 0.2, 0.0], [1.0, 1.0, 1.0]]]], dtype=torch.float64, requires_grad=True)
    opacity = torch.tensor([[[0.75, 0.0]]], dtype=torch.float64, requires_grad=True)
    picture = torch.tensor([[[[0.1, 0.2, 0.2], [0.2, 0.4, 1.0]]]])
    return inputs({"colour": picture, "mask": torch.tensor([[[1.0, 0.5]]])}, colour=colour, opacity=opacity)


def test_the_picture_is_compared_inside_its_mask(two_pixels: LossInputs) -> None:
    """(0.16 + 0 + 0.04 + 0.25 (0.64 + 0.36 + 0)) / 6 = 0.075."""
    assert make(Picture)(two_pixels).item() == pytest.approx(0.075, rel=1e-6)


def test_the_mask_is_compared_everywhere(two_pixels: LossInputs) -> None:
    """(0.0625 + 0.25) / 2 = 0.15625."""
    assert make(Mask)(two_pixels).item() == pytest.approx(0.15625)


def test_outside_the_mask_any_colour_will_do() -> None:
    """A hundred pictures' worth of difference behind the object adds nothing, and has no gradient."""
    colour = torch.rand(2, 4, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.zeros(2, 4, 4)
    mask[:, :, :2] = 1
    picture = torch.where(mask[..., None] > 0, colour.detach(), 1 - colour.detach())
    value = make(Picture)(inputs({"colour": picture, "mask": mask}, colour=colour))
    assert value.item() == 0
    (gradient,) = torch.autograd.grad(value, colour)
    assert not gradient.any()


def test_without_a_mask_all_of_the_picture_counts() -> None:
    colour, black = torch.full((1, 2, 2, 3), 0.5, requires_grad=True), torch.zeros(1, 2, 2, 3)
    assert make(Picture)(inputs({"colour": black}, colour=colour)).item() == pytest.approx(0.25)
    assert make(Depth)(inputs({"depth": black[..., 0]}, depth=colour[..., 0])).item() == pytest.approx(0.25)


def test_depths_count_where_picture_and_render_show_the_object() -> None:
    """1 x 3 pixels: half covered, outside the mask, missed by the render: (0.5 0.8 0.3^2) / 3."""
    targets = {"depth": torch.tensor([[[2.0, 2.0, 2.0]]]), "mask": torch.tensor([[[0.5, 0.0, 1.0]]])}
    step = inputs(targets, depth=torch.tensor([[[2.3, 9.0, 0.0]]]), opacity=torch.tensor([[[0.8, 1.0, 0.0]]]))
    assert make(Depth)(step).item() == pytest.approx(0.5 * 0.8 * 0.09 / 3, rel=1e-5)


def test_the_correlation_does_not_know_scale_or_shift() -> None:
    """0 for a d + b with a > 0, 1 for a < 0, a half for depths that have nothing in common; pixels outside the mask are free."""
    depth = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[2.0, 2.5, 2.0, 1.5]]]).requires_grad_()
    loss = make(Depth, compare="correlation")
    assert loss(inputs({"depth": 0.3 * depth.detach() + 7}, depth=depth)).item() == pytest.approx(0, abs=1e-6)
    assert loss(inputs({"depth": 5 - depth.detach()}, depth=depth)).item() == pytest.approx(1, abs=1e-6)
    other = torch.tensor([[[1.0, -1.0, -1.0, 1.0]], [[1.0, 5.0, 1.0, 5.0]]])
    assert loss(inputs({"depth": other}, depth=depth)).item() == pytest.approx(0.5, abs=1e-6)
    mask = torch.ones(2, 1, 4)
    mask[:, :, 3] = 0
    wrong = torch.cat([depth[..., :3].detach(), torch.full((2, 1, 1), 99.0)], dim=-1)
    assert loss(inputs({"depth": wrong, "mask": mask}, depth=depth)).item() == pytest.approx(0, abs=1e-6)


def test_the_correlation_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    depth, target = (torch.rand(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(depth, target, strict=True)]
    found = make(Depth, compare="correlation")(inputs({"depth": target}, depth=depth))
    assert found.item() == pytest.approx(float((1 - torch.stack(rows).mean()) / 2), rel=1e-6)


def test_a_flat_depth_has_a_finite_gradient() -> None:
    depth = torch.full((1, 2, 2), 3.0, requires_grad=True)
    make(Depth, compare="correlation")(inputs({"depth": torch.rand(1, 2, 2)}, depth=depth)).backward()
    assert depth.grad is not None
    assert torch.isfinite(depth.grad).all()


def test_normals_are_compared_by_their_angle() -> None:
    """Turned by 60 degrees, half as long, where O = 0.5: 0.5 (1 - 1/2) on one of two pixels; the other has no normal."""
    turned = torch.tensor([math.sin(math.pi / 3), 0.0, math.cos(math.pi / 3)])
    normal = torch.stack([turned / 2, torch.zeros(3)]).view(1, 1, 2, 3).requires_grad_()
    up = torch.tensor([0.0, 0.0, 1.0]).expand(1, 1, 2, 3)
    value = make(Normal)(inputs({"normal": up}, normal=normal, opacity=torch.tensor([[[0.5, 0.0]]])))
    assert value.item() == pytest.approx(0.5 * 0.5 / 2, rel=1e-5)
    value.backward()
    assert normal.grad is not None
    assert torch.isfinite(normal.grad).all()
    assert not normal.grad[0, 0, 1].any()


@pytest.mark.parametrize(
    ("kind", "targets", "of", "told"),
    [
        (Picture, {}, "colour", r"picture: its views have no colour to compare with; write views: NAME"),
        (Mask, {"colour": torch.zeros(1, 2, 2, 3)}, "colour", r"mask: its views have no mask to compare with"),
        (Picture, {"colour": torch.zeros(1, 3, 3, 3)}, "colour", r"the render has shape \(1, 2, 2, 3\) and the views' colour"),
        (Picture, {"colour": torch.zeros(1, 2, 2, 3)}, "depth", r"picture: compares the colour of a view, and not its depth"),
        (Normal, {"normal": torch.zeros(1, 2, 2, 3)}, "colour", r"normal: needs normals, and the renderer gave none"),
    ],
)
def test_what_cannot_be_compared_is_said(kind: type[Posed], targets: Mapping[str, Tensor], of: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make(kind)(inputs(targets, of, colour=torch.zeros(1, 2, 2, 3)))


@pytest.mark.parametrize(("loss", "target"), [("picture", "colour"), ("mask", "mask"), ("depth", "depth"), ("normal", "normal")])
def test_views_without_the_target_are_refused_before_anything_loads(loss: str, target: str) -> None:
    told = (
        rf"losses\.held: dreamfw/{loss} \S+ needs target-{target} of its views, and dreamfw/random \S+ at cameras "
        "do not give it; write views: NAME, a set in view_sets that does"
    )
    with pytest.raises(ConfigError, match=told):
        compose(load_config("dreamfusion", [f"losses.held={{type: {loss}}}", "renderer.shading.normals=always"]))


def test_views_with_the_targets_fit() -> None:
    sets = "view_sets.reference={type: picture, image: reference.png}"
    losses = [f"losses.{loss}={{type: {loss}, views: reference}}" for loss in ("picture", "mask")]
    assert ("losses", "mask") in compose(load_config("dreamfusion", [sets, *losses])).chosen
