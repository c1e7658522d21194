"""SDS-Bridge: SDS before its switch, the direction between two texts from it on."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, agree, ask, at, coefficients, draw, mu, prior, pull, views

from dfw import Progress
from dfw_losses.bridge import Bridge
from dfw_losses.sds import SDS


def bridge(**options):
    loss = Bridge(Bridge.Config(**options))
    return loss, dict(zip(loss.texts(), ("good", "bad"), strict=True))


@pytest.mark.parametrize("step", [0, 29])
def test_before_the_switch_it_is_sds_draw_by_draw(step):
    (loss, texts), model, z = bridge(guidance_scale=20, switch=0.3), prior(), views(4)
    found = loss.residual(z, ask(z, model, texts, seed=7, progress=Progress(step, 100)))
    sds = SDS(SDS.Config(guidance_scale=20)).residual(z, ask(z, model, seed=7))
    torch.testing.assert_close(found, sds)


@pytest.mark.parametrize("schedule", [None, FLOW])
@pytest.mark.parametrize("step", [30, 99])
def test_from_the_switch_on_it_goes_from_bad_to_good(step, schedule):
    """k c (mu_bad - mu_good): following minus the gradient leads towards the good."""
    t, (loss, texts), model = 400, bridge(scale=5, switch=0.3, **at(400)), prior(schedule=schedule)
    expected = 5 * coefficients(model, t)[1] ** 2 * pull(model, t) * (mu("bad") - mu("good"))
    agree(draw(loss, model, texts, Progress(step, 100), count=10), expected)


def test_its_texts_hold_the_prompt():
    good, bad = bridge(good="{prompt}, sharp", bad="{prompt}, foggy")[0].texts()
    assert (good, bad) == ("{prompt}, sharp", "{prompt}, foggy")
