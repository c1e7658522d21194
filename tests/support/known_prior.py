"""Distillation losses on a prior that is known exactly: every text is one Gaussian, so every mean gradient can be written down.

In the encoded space, black -1 to white 1. eps(z_t; p) = sigma (z_t - alpha mu_p) / v with v = alpha^2 s^2 + sigma^2, so that
E eps_hat - eps = c (z - mu_p) with c = sigma alpha / v: `pull`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import loss_inputs
import torch
from torch import Tensor

from dfw import LossInputs, NoiseSchedule, Progress, PromptBatch, RenderOutput, Views
from dfw.distillation.base import Distillation
from dfw_guidance.gaussian import Gaussian

STD = 0.3
COLOURS = {"y": (0.9, 0.2, 0.4), "n": (0.3, 0.6, 0.1), "none": (0.5, 0.45, 0.7), "bad": (0.2, 0.1, 0.8), "good": (0.7, 0.9, 0.3)}
COUNT = 6_000
FLOW = NoiseSchedule(1 - (torch.arange(1000) + 1) / 1001, (torch.arange(1000) + 1) / 1001)
"""z_t = (1 - t) z + t eps: a schedule that does not preserve variance, as rectified-flow models have."""


def prior(side: int = 2, schedule: NoiseSchedule | None = None) -> Gaussian:
    """One Gaussian for each of COLOURS, float64."""
    model = Gaussian(Gaussian.Config.model_validate({"means": COLOURS, "std": STD, "resolution": side})).double()
    model.schedule = schedule or model.schedule
    return model


def mu(text: str) -> Tensor:
    """The mean of a text's Gaussian (1, 3, 1, 1)."""
    return 2 * torch.tensor(COLOURS[text], dtype=torch.float64).view(1, 3, 1, 1) - 1


def guided_mu(scale: float) -> Tensor:
    """The point that guidance of `scale` pulls to: mu_n + s (mu_y - mu_n)."""
    return mu("n") + scale * (mu("y") - mu("n"))


def coefficients(model: Gaussian, t: int) -> tuple[float, float]:
    """alpha_t and sigma_t as the schedule holds them."""
    return float(model.schedule.alpha[t].double()), float(model.schedule.sigma[t].double())


def pull(model: Gaussian, t: int) -> float:
    """sigma alpha / (alpha^2 s^2 + sigma^2)."""
    alpha, sigma = coefficients(model, t)
    return sigma * alpha / (alpha**2 * STD**2 + sigma**2)


def views(count: int = 1, side: int = 2) -> Tensor:
    """An encoded image, repeated: its pixels differ."""
    one = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return (2 * one - 1).expand(count, 3, side, side)


def ask(
    z: Tensor, model: Gaussian, texts: Mapping[str, str] | None = None, seed: int = 0, progress: Progress | None = None
) -> LossInputs:
    """Inputs for encoded views `z`: prompt "y", negative prompt "n"; `texts`: what the loss asks for -> a text of COLOURS."""
    batch = len(z)
    image = ((z + 1) / 2).permute(0, 2, 3, 1)
    render = RenderOutput(image, torch.ones_like(image[..., 0]), torch.ones_like(image[..., 0]))
    others = {text: model.encode_text([known] * batch) for text, known in (texts or {}).items()}
    prompt = PromptBatch(model.encode_text(["y"] * batch), model.encode_text(["n"] * batch), texts=others)
    generator = torch.Generator().manual_seed(seed)
    seen = Views(loss_inputs.cameras(batch, z.shape[-1]))
    return LossInputs(render, seen, prompt, model, progress or Progress(0, 100), generator)


def at(t: int) -> dict[str, float]:
    """Options that fix the timestep."""
    return {"t_min": t / 1000, "t_max": t / 1000}


@dataclass(frozen=True)
class Draws:
    """Mean (1, 3, h, h) of many gradients at one image, the standard error of each number, and the largest variance."""

    mean: Tensor
    error: Tensor
    variance: float


def draw(
    loss: Distillation,
    model: Gaussian,
    texts: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    count: int = COUNT,
) -> Draws:
    """`count` gradients w(t) direction of one image, with independent noise."""
    z = views(count, model.resolution)
    drawn = loss.residual(z, ask(z, model, texts, progress=progress))
    return Draws(drawn.mean(0, keepdim=True), drawn.std(0, keepdim=True) / count**0.5, float(drawn.var(0).max()))


def agree(draws: Draws, expected: Tensor, power: float = 20) -> None:
    """The mean is `expected` within five standard errors, and `power` errors from nothing: a wrong one would have shown."""
    expected = expected.expand_as(draws.mean)
    floor = draws.error.clamp_min(1e-9)  # deterministic losses have no error but rounding
    assert ((draws.mean - expected) / floor).abs().max() < 5
    assert (expected / floor).abs().max() > power
