"""The eikonal penalty by hand-computed values, and what it says where there is no signed distance."""

from __future__ import annotations

from collections.abc import Mapping

import loss_inputs
import pytest
import torch
from torch import Tensor

from dfw import ConfigError, LossInputs, RaySamples
from dfw.compose import compose
from dfw.config.load import load_config
from dfw_losses.eikonal import Eikonal


def inputs(extras: Mapping[str, Tensor], count: int) -> LossInputs:
    flat = torch.ones(count)
    samples = RaySamples(flat, torch.arange(count), flat, torch.zeros(count, 3), extras=extras)
    return loss_inputs.of_opacity(torch.ones(1, 1, max(count, 1)), samples)


def test_by_hand() -> None:
    """((0 - 1)^2 + (1 - 1)^2 + (1.5 - 1)^2) / 3."""
    gradient = torch.tensor([[0.0], [1.0], [1.5]])
    assert Eikonal(Eikonal.Config())(inputs({"gradient": gradient}, 3)).item() == pytest.approx(1.25 / 3)


def test_without_samples_it_is_zero() -> None:
    assert Eikonal(Eikonal.Config())(inputs({"gradient": torch.zeros(0, 1)}, 0)).item() == 0


def test_samples_without_a_distance_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs the distance's gradient"):
        Eikonal(Eikonal.Config())(inputs({}, 2))


def test_a_scene_without_a_distance_is_refused_before_anything_loads() -> None:
    told = r"losses\.eikonal: dreamfw/eikonal \S+ needs signed-distance; geometry dreamfw/nerf \S+ does not provide it"
    with pytest.raises(ConfigError, match=told):
        compose(load_config("dreamfusion", ["losses.eikonal={}", "renderer.shading.normals=always"]))
