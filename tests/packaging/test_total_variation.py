"""The single-file loss of examples/extensions: closed forms, gradients against finite differences, and its road by --plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loss_inputs
import pytest
import torch
from torch import Tensor

from dfw import Loss, LossInputs, Progress, RenderOutput, Views
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.errors import ConfigError
from dfw.plugins import listeners
from dfw.plugins.listeners import load_plugin_file
from dfw.plugins.registry import registry

FOLDER = Path(__file__).parents[2] / "examples" / "extensions"


@pytest.fixture(scope="module")
def loss() -> Iterator[Loss]:
    load_plugin_file(FOLDER / "total_variation.py")
    cls = registry().load(registry().resolve("loss", "local/total-variation"))
    try:
        yield cls(cls.Config())  # type: ignore[call-arg]
    finally:
        listeners._files.clear()
        registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


def inputs(normal: Tensor | None, opacity: Tensor) -> LossInputs:
    """Of normals (B, H, W, 3) and opacities (B, H, W)."""
    colour = opacity[..., None].expand(*opacity.shape, 3)
    render = RenderOutput(colour, opacity, opacity, normal)
    views = Views(loss_inputs.cameras(len(opacity), 4))
    return LossInputs(render, views, None, None, Progress(0, 1), torch.Generator())


def test_a_ramp_of_normals_has_its_slope_on_half_of_the_pairs(loss: Loss) -> None:
    """n = a x along one axis of an n x n image: |a| summed over channels on the n (n - 1) pairs along it, 0 on as many across."""
    slope = torch.tensor([0.1, -0.2, 0.05])
    ramp = torch.arange(4.0)[None, None, :, None] * slope
    normal = ramp.expand(2, 4, 4, 3)
    for turned in (normal, normal.transpose(1, 2)):
        assert loss(inputs(turned, torch.ones(2, 4, 4))).item() == pytest.approx(0.35 / 2, rel=1e-6)


def test_an_edge_costs_its_height_however_wide_it_is(loss: Loss) -> None:
    """Total variation: a step from 0 to 1 in one pixel or spread over three costs the same; the image is 1 x 2 x 4."""
    for profile in ([0.0, 0, 1, 1], [0.0, 1 / 3, 2 / 3, 1]):
        normal = torch.tensor(profile)[None, None, :, None] * torch.tensor([0.0, 0, 1]).expand(1, 2, 4, 3)
        assert loss(inputs(normal, torch.ones(1, 2, 4))).item() == pytest.approx(2 / 10, rel=1e-6)


def test_a_plane_and_the_silhouette_cost_nothing(loss: Loss) -> None:
    flat = torch.tensor([0.0, 0.6, 0.8]).expand(1, 4, 4, 3)
    assert loss(inputs(flat, torch.rand(1, 4, 4))).item() == 0
    solid = torch.zeros(1, 4, 4)
    solid[:, 1:3, 1:3] = 1
    assert loss(inputs(flat * solid[..., None], solid)).item() == 0


def test_the_gradient_reaches_the_normals_alone(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    opacity = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda n: loss(inputs(n, opacity.detach())), normal)
    loss(inputs(normal, opacity)).backward()
    assert opacity.grad is None


def test_without_normals_the_user_is_told_what_to_turn_on(loss: Loss) -> None:
    with pytest.raises(ConfigError, match="turn its normals on"):
        loss(inputs(None, torch.ones(1, 2, 2)))
    with pytest.raises(
        ConfigError, match=r"needs normals; renderer dreamfw/volume \S+ provides them when renderer\.shading\.normals is 'always'"
    ):
        compose(load_config(FOLDER / "total_variation.yaml", ["renderer.shading.normals=auto"]))


def test_the_shown_configuration_fits_together(loss: Loss) -> None:
    made = compose(load_config(FOLDER / "total_variation.yaml"))
    assert made.chosen["losses", "total-variation"].cls is type(loss)
    assert made.origins()["losses.total-variation"].distribution == "local"
