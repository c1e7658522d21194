"""Flow score distillation on Gaussian data, where the flow from noise to picture is a formula."""

from __future__ import annotations

import math

import pytest
import scenes
import torch
from dreamfw_consistent_noise.fsd import FSD
from torch import Tensor

import dfw
from dfw import LossInputs, LossSetup, Progress, PromptBatch, RenderOutput, Views
from dfw.testing import GaussianScore

SIDE, STD, STEPS = 4, 0.5, 980
GUIDANCE = GaussianScore(SIDE, STD)


def inputs(image: Tensor, step: int, generator: torch.Generator) -> LossInputs:
    """A picture (1, 3, h, h) without surface, so that its noise is that of the background, at a step of STEPS."""
    empty = torch.zeros(1, SIDE, SIDE)
    said = [GUIDANCE.encode_text([text]) for text in ("left", "")]
    cameras = scenes.at((0, 0), height=SIDE, width=SIDE)
    render = RenderOutput(image.permute(0, 2, 3, 1), empty, empty)
    return LossInputs(render, Views(cameras), PromptBatch(*said), GUIDANCE, Progress(step, STEPS), generator)


STILL = {"type": "dreamfw-consistent-noise/surface", "renewal": 0}


def walked(seed: int, noise: dict[str, object]) -> Tensor:
    """Where the clean picture z ends that starts grey and takes the steps of the ODE, dz = direction d(sigma / alpha)."""
    ramp = {"from": 0.98, "to": 0.0}
    options = {"guidance_scale": 1, "timesteps": ramp, "weighting": "one", "noise": noise}
    loss = FSD(FSD.Config.model_validate(options))
    generator = scenes.generator(seed)
    loss.bind(LossSetup(GUIDANCE, None, None, generator))
    ratio = GUIDANCE.schedule.sigma / GUIDANCE.schedule.alpha
    z = torch.zeros(1, 3, SIDE, SIDE)
    for step in range(STEPS - 1):
        image = (z / 2 + 0.5).requires_grad_()
        loss(inputs(image, step, generator)).backward()
        assert image.grad is not None
        t = STEPS - step
        z = z - image.grad / 2 * (ratio[t] - ratio[t - 1])  # d z / d image = 2
    return z


def test_one_noise_leads_to_one_sample() -> None:
    """The flow keeps (z_t - alpha mu) / sqrt(alpha^2 s^2 + sigma^2), so that z ends at mu + s times that of the start."""
    loss = FSD(FSD.Config.model_validate({"noise": STILL}))
    loss.bind(LossSetup(GUIDANCE, None, None, scenes.generator(3)))
    blank = torch.zeros(1, 3, SIDE, SIDE)
    eps = loss.noise(blank, inputs(blank, 0, scenes.generator()))
    mean = GUIDANCE.means[0].view(1, 3, 1, 1)
    alpha, sigma = (float(part[STEPS]) for part in (GUIDANCE.schedule.alpha, GUIDANCE.schedule.sigma))
    start = (sigma * eps - alpha * mean) / math.sqrt(alpha**2 * STD**2 + sigma**2)
    expected = mean + STD * start
    found = walked(3, STILL)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert float((expected - mean).std()) > 0.3  # a sample, and not the mean


def test_new_noise_in_each_step_leads_to_the_mean() -> None:
    """What `sds` does with the same timesteps: the spread of the data is lost."""
    found = walked(3, {"type": "dreamfw/gaussian"}) - GUIDANCE.means[0].view(1, 3, 1, 1)
    assert float(found.square().mean().sqrt()) < 0.45 * STD


def test_the_defaults_are_the_papers() -> None:
    """t of the authors' stage 1 at 0, 10, 50 and 100 % of the run."""
    config = FSD.Config()
    assert config.weighting == "sigma-over-alpha"
    assert config.noise.type == "dreamfw-consistent-noise/surface"
    assert isinstance(config.timesteps, dfw.Ramp)
    for fraction, t in ((0, 0.98), (10, 0.692), (50, 0.404), (100, 0.212)):
        assert config.timesteps.at(Progress(fraction, 100)) == pytest.approx(t, abs=0.045)
