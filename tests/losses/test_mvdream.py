"""MVDream's objective for scenes of several views: one timestep and one contrast for each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfw import LossInputs, Progress, PromptBatch, Query, RenderOutput, Views, orbit
from dfw.testing import GaussianScore
from dfw_losses.mvdream import MVDream

SIDE, VIEWS, SCENES = 4, 4, 3


def inputs(contrast: Tensor | None = None) -> LossInputs:
    """A step that sees three scenes of four views, which ask a score model in closed form. `contrast`: factors of the views."""
    generator = torch.Generator().manual_seed(0)
    count = VIEWS * SCENES
    colour = torch.rand(count, SIDE, SIDE, 3, generator=generator, dtype=torch.float64)
    if contrast is not None:
        colour = 0.5 + contrast.view(-1, 1, 1, 1) * (colour - 0.5)
    render = RenderOutput(colour.requires_grad_(), torch.ones(count, SIDE, SIDE), torch.ones(count, SIDE, SIDE))
    model = GaussianScore(SIDE)
    prompt = PromptBatch(model.encode_text(["left"] * count), model.encode_text([""] * count))
    views = Views(orbit(count, 15, 3, 40, SIDE, SIDE).in_groups(VIEWS))
    return LossInputs(render, views, prompt, model, Progress(0, 10), generator)


def query(loss: MVDream, seen: LossInputs) -> Query:
    return loss.query(seen.encoded.detach(), seen)


def test_a_scene_has_one_timestep_and_its_views_their_own_noise() -> None:
    found = query(MVDream(MVDream.Config()), inputs())
    steps = found.timestep.view(SCENES, VIEWS)
    assert (steps == steps[:, :1]).all()
    assert len(steps[:, 0].unique()) == SCENES
    noise = found.noise.view(SCENES * VIEWS, -1)
    assert torch.pdist(noise).min() > 1


def test_contrast_is_corrected_over_all_views_of_a_scene() -> None:
    """With r = 1 a scene's estimates have the standard deviation of the unguided ones, with r = 0 that of the guided ones.

    One factor serves a whole scene: views of weak contrast stay weaker than their neighbours.
    """
    seen = inputs(torch.tensor([1.0, 0.1, 1.0, 0.1] * SCENES))
    asked = query(MVDream(MVDream.Config()), seen)
    base, positive = asked.each([asked.prompt.negative, asked.prompt.positive])
    plain = asked.guidance.predict_clean(asked.noisy, asked.timestep, positive)
    guided = asked.guidance.predict_clean(asked.noisy, asked.timestep, base + 50 * (positive - base))
    for r, wanted in ((1.0, plain), (0.0, guided)):
        found = MVDream(MVDream.Config(rescale=r)).estimate(asked)
        torch.testing.assert_close(found.reshape(SCENES, -1).std(1), wanted.reshape(SCENES, -1).std(1))
        ratio = (found / guided).reshape(SCENES, -1)
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_half_and_half_lies_in_the_middle() -> None:
    asked = query(MVDream(MVDream.Config()), inputs())
    ends = [MVDream(MVDream.Config(rescale=r)).estimate(asked) for r in (0.0, 1.0)]
    torch.testing.assert_close(MVDream(MVDream.Config(rescale=0.25)).estimate(asked), 0.75 * ends[0] + 0.25 * ends[1])


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_its_gradient_is_that_of_the_squared_distance(scale: float) -> None:
    """Autograd through |z - x0|^2 / (2 B), x0 held fixed: MVDream's own code takes it so."""
    seen = inputs()
    loss = MVDream(MVDream.Config(guidance_scale=scale))
    state = seen.generator.get_state()
    (found,) = torch.autograd.grad(loss(seen), seen.encoded, retain_graph=True)
    seen.generator.set_state(state)
    fixed = loss.estimate(query(loss, seen)).detach()
    (expected,) = torch.autograd.grad((seen.encoded - fixed).square().sum() / (2 * VIEWS * SCENES), seen.encoded)
    torch.testing.assert_close(found, expected)
