"""Bounds on a distillation gradient, by hand, and on their schedule in a loss."""

from __future__ import annotations

import math

import pytest
import torch
from known_prior import ask, at, prior, views

from dfw import Progress
from dfw.distillation.clipping import clip_gradient
from dfw_losses.sds import SDS


def test_clipping_by_hand():
    gradient = torch.tensor([[3.0, -4.0], [0.3, 0.4]]).view(2, 2, 1, 1)
    element = clip_gradient(gradient, 1.0, "element").flatten(1)
    torch.testing.assert_close(element, torch.tensor([[1.0, -1.0], [0.3, 0.4]]))
    torch.testing.assert_close(clip_gradient(gradient, 1.0, "pixel").flatten(1), torch.tensor([[0.6, -0.8], [0.3, 0.4]]))
    root = math.sqrt(12.5)
    torch.testing.assert_close(clip_gradient(gradient, 1.0, "view").flatten(1), torch.tensor([[3 / root, -4 / root], [0.3, 0.4]]))
    zero = torch.zeros(1, 3, 2, 2)
    for by in ("element", "pixel", "view"):
        assert torch.equal(clip_gradient(zero, 0.5, by), zero)
        assert clip_gradient(torch.full((1, 3, 1, 1), torch.nan), 0.5, by).isnan().all()


def test_a_loss_clips_its_weighted_gradient_on_schedule():
    model, z = prior(), views(20)
    clip = {"limit": {"from": 0.05, "to": 0.2}}
    free = SDS(SDS.Config(**at(400))).residual(z, ask(z, model))
    for step, limit in ((0, 0.05), (50, 0.125), (99, 0.1985)):
        bound = SDS(SDS.Config.model_validate({"clip": clip, **at(400)})).residual(z, ask(z, model, progress=Progress(step, 100)))
        torch.testing.assert_close(bound, free.clamp(-limit, limit))
    with pytest.raises(ValueError, match=r"must be above 0; D-SDS raises it from 0\.5 to 2"):
        SDS.Config.model_validate({"clip": {"limit": 0}})
