"""Computes the figures of docs/claims.md: the cost of the network's Jacobian, the estimators' variances, the KL of SDS.

Legend: B draws or views, C channels of side h of the guidance's space, z the encoded view, r = eps_hat - eps the residual,
J = d eps_hat / d z_t the network's Jacobian.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from dfw import Distillation, Guidance, GuidedConfig, LossInputs, Progress, PromptBatch, RenderOutput, Views, orbit
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.runs.prompt_table import PromptTable
from dfw_guidance.gaussian import Gaussian
from dfw_losses.diffusion import Diffusion
from dfw_losses.score import Score
from dfw_losses.sds import SDS
from dfw_prompters.plain import Plain

SKY = "a sky"
STD = 0.2
"""Standard deviation s of the Gaussian data, where black is -1 and white 1."""


def embedded() -> Guidance:
    """Builds the prior that ships in the package."""
    return compose(load_config("playground-2d")).guidance("guidance")


def sky(side: int = 4) -> Gaussian:
    """Makes data N(mu, s^2 I) in float64, for which the ideal prediction is a formula."""
    return Gaussian(Gaussian.Config(means={SKY: (0.4, 0.6, 0.9)}, std=STD, resolution=side)).double()


def asked(guidance: Guidance, prompt: str, count: int) -> tuple[Views, PromptBatch]:
    """`count` views from the front, and the prompt as it is written for each of them."""
    cameras = orbit(1, 15.0, 3.0, 40.0, 64, 64, guidance.schedule.alpha.device).select(torch.zeros(count, dtype=torch.long))
    return Views(cameras), PromptTable(guidance, Plain(Plain.Config()), prompt).batch(cameras)


def ask(guidance: Guidance, image: Tensor, prompt: str, seed: int) -> LossInputs:
    """Makes a loss's inputs from images (B, 3, H, W) in [0, 1]. Noise comes from `seed`."""
    views, text = asked(guidance, prompt, len(image))
    colour = image.permute(0, 2, 3, 1)
    render = RenderOutput(colour, torch.ones_like(colour[..., 0]), torch.ones_like(colour[..., 0]))
    return LossInputs(render, views, text, guidance, Progress(0, 100), torch.Generator().manual_seed(seed))


def make(kind: type[Distillation], timestep: int, guidance: Guidance, scale: float = 1.0, weighting: str = "one") -> Distillation:
    """Makes a loss at one timestep."""
    t = timestep / len(guidance.schedule)
    config = kind.Config
    assert issubclass(config, GuidedConfig)
    return kind(config.model_validate({"guidance_scale": scale, "weighting": weighting, "t_min": t, "t_max": t}))


def gradients(loss: Distillation, guidance: Guidance, image: Tensor, prompt: str, count: int, seed: int) -> Tensor:
    """Returns `count` draws (count, C, h, h), float64, of the loss's gradient at one image (1, 3, H, W)."""
    inputs = ask(guidance, image.expand(count, -1, -1, -1), prompt, seed)
    with torch.no_grad():
        encoded = guidance.encode_image(image).expand(count, -1, -1, -1)
    return loss.residual(encoded, inputs).double()


# 1. The network's Jacobian: its cost


def saved_bytes(action: Callable[[], object], model: nn.Module) -> int:
    """Counts the bytes that autograd saves while `action` runs: each storage once, without `model`'s own weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        action()
    return sum(kept.values())


@dataclass(frozen=True)
class Cost:
    """Cost of a gradient."""

    wall: float
    """Median seconds on the clock."""
    cpu: float
    """Median CPU seconds of all threads."""
    saved: int
    """Bytes saved for backward."""


def jacobian_cost(guidance: Guidance, prompt: str, views: int, repeats: int) -> dict[str, dict[str, Cost]]:
    """Measures the gradients of `sds` and `diffusion`, at the encoded views ("latents") and at the pixels."""
    side = guidance.resolution
    image = torch.rand(views, 3, side, side, generator=torch.Generator().manual_seed(0)).to(guidance.schedule.alpha.dtype)
    with torch.no_grad():
        encoded = guidance.encode_image(image)
    losses = {"sds": SDS(SDS.Config(guidance_scale=7.5)), "diffusion": Diffusion(Diffusion.Config(guidance_scale=7.5))}

    def pixels(loss: Distillation) -> None:
        drawn = image.clone().requires_grad_()
        loss(ask(guidance, drawn, prompt, 0)).backward()

    def latents(loss: Distillation) -> None:
        loss.residual(encoded, ask(guidance, image, prompt, 0))

    ways: dict[str, Callable[[Distillation], None]] = {"latents": latents, "pixels": pixels}
    found: dict[str, dict[str, Cost]] = {way: {} for way in ways}
    for way, action in ways.items():
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in losses}
        for _ in range(repeats + 1):  # in turn, so that other work on the machine disturbs both alike
            for name, loss in losses.items():
                start = time.perf_counter(), time.process_time()
                action(loss)
                taken[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        for name, loss in losses.items():
            wall, cpu = (statistics.median(part) for part in zip(*taken[name][1:], strict=True))
            saved = saved_bytes(lambda action=action, loss=loss: action(loss), guidance)  # type: ignore[misc]
            found[way][name] = Cost(wall, cpu, saved)
    return found


@dataclass(frozen=True)
class Gain:
    """Means over draws at one timestep."""

    timestep: int
    """Timestep."""
    gain: float
    """|2 alpha J^T r| / |r|."""
    cosine: float
    """Cosine between the two gradients."""


def jacobian_gain(guidance: Guidance, prompt: str, image: Tensor, timesteps: Sequence[int], count: int) -> list[Gain]:
    """Measures what the Jacobian does to the residual. For Gaussian data the gain is 2 alpha sigma / v and the cosine 1."""
    found = []
    for t in timesteps:
        sds, full = (
            gradients(make(kind, t, guidance), guidance, image, prompt, count, seed=t).flatten(1) for kind in (SDS, Diffusion)
        )
        gain = (full.norm(dim=1) / sds.norm(dim=1)).mean()
        found.append(Gain(t, float(gain), float(nn.functional.cosine_similarity(sds, full).mean())))
    return found


# 2. The same mean, a lower variance


@dataclass(frozen=True)
class Spread:
    """Variances of one draw of both estimators at one timestep, averaged over all numbers."""

    timestep: int
    """Timestep."""
    sds: float
    """Variance of SDS."""
    score: float
    """Variance of the score estimator."""
    off: float
    """Largest difference of the two means, in standard errors."""
    exact_sds: float | None = None
    """Variance of SDS in closed form, if there is one."""
    exact_score: float | None = None
    """Variance of the score estimator in closed form, if there is one."""


def spread(guidance: Guidance, image: Tensor, prompt: str, scale: float, timestep: int, count: int) -> Spread:
    """Measures `count` draws of each estimator, with independent noise."""
    sds, score = (
        gradients(make(kind, timestep, guidance, scale), guidance, image, prompt, count, seed=2 * timestep + place)
        for place, kind in enumerate((SDS, Score))
    )
    error = ((sds.var(0) + score.var(0)) / count).sqrt()
    off = float(((sds.mean(0) - score.mean(0)) / error).abs().max())
    exact = exact_variances(guidance, timestep) if isinstance(guidance, Gaussian) else (None, None)
    return Spread(timestep, float(sds.var(0).mean()), float(score.var(0).mean()), off, *exact)


def exact_variances(guidance: Gaussian, timestep: int) -> tuple[float, float]:
    """Returns (alpha^2 s^2 / v)^2 and (sigma^2 / v)^2 for data N(mu, s^2 I), where v = alpha^2 s^2 + sigma^2."""
    alpha, sigma = (float(part[timestep].double()) ** 2 for part in (guidance.schedule.alpha, guidance.schedule.sigma))
    v = alpha * guidance.config.std**2 + sigma
    return (alpha * guidance.config.std**2 / v) ** 2, (sigma / v) ** 2


def crossing(guidance: Gaussian) -> int:
    """Returns the first timestep with sigma_t > alpha_t s. From there on the control variate lowers the variance."""
    return int((guidance.schedule.sigma > guidance.schedule.alpha * guidance.config.std).nonzero()[0, 0])


# 3. SDS descends a KL divergence


@dataclass(frozen=True)
class Identity:
    """Both sides of the KL identity at one timestep, as root mean squares."""

    timestep: int
    """Timestep."""
    kl_gradient: float
    """w (sigma/alpha) d KL / d x by finite differences."""
    distance: float
    """Distance of the mean SDS gradient from it."""
    error: float
    """Standard error of that distance."""
    off: float
    """Largest distance, in standard errors."""


def kl_prior() -> Gaussian:
    """Makes a Gaussian whose channels vary together, so that the KL's gradient does not point at the mean."""
    mean = {"mean": (0.4, 0.6, 0.9), "covariance": ((0.01, 0.0, 0.0), (0.0, 0.04, 0.03), (0.0, 0.03, 0.04))}
    return Gaussian(Gaussian.Config.model_validate({"means": {SKY: mean}, "resolution": 1})).double()


def kl_gradient(guidance: Gaussian, x: Tensor, timestep: int, step: float = 1e-5) -> Tensor:
    """Returns d/dx KL(q(z_t | x) || p(z_t)) (3,) at x (3,), by central differences of the closed form for two Gaussians."""
    alpha, sigma = (float(part[timestep].double()) for part in (guidance.schedule.alpha, guidance.schedule.sigma))
    eye = torch.eye(3, dtype=torch.float64)
    data = guidance.axes[0].T @ guidance.variances[0].diag() @ guidance.axes[0]
    p = MultivariateNormal(alpha * guidance.means[0].flatten(), alpha**2 * data + sigma**2 * eye)

    def divergence(at: Tensor) -> Tensor:
        return kl_divergence(MultivariateNormal(alpha * at, sigma**2 * eye), p)

    return torch.stack([(divergence(x + step * unit) - divergence(x - step * unit)) / (2 * step) for unit in eye])


def kl_identity(guidance: Gaussian, colour: Sequence[float], timestep: int, count: int) -> Identity:
    """Measures both sides of w (sigma/alpha) grad KL = E w (eps_hat - eps) at one colour in [0, 1], with w = sigma^2."""
    image = torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1)
    alpha, sigma = (float(part[timestep].double()) for part in (guidance.schedule.alpha, guidance.schedule.sigma))
    left = sigma**2 * (sigma / alpha) * kl_gradient(guidance, guidance.encode_image(image).flatten(), timestep)
    drawn = gradients(make(SDS, timestep, guidance, weighting="sigma2"), guidance, image, SKY, count, seed=timestep).flatten(1)
    error = drawn.std(0) / count**0.5
    away = drawn.mean(0) - left
    rms = [float(value.square().mean().sqrt()) for value in (left, away, error)]
    return Identity(timestep, rms[0], rms[1], rms[2], float((away / error).abs().max()))


def entropy_terms(alpha: float, sigma: float, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the two parts of d log q(z_t | x) / d x by autograd: through z_t = alpha x + sigma eps, and through q's mean."""
    path, own = x.clone().requires_grad_(), x.clone().requires_grad_()
    noisy = alpha * path + sigma * eps
    log_q = torch.distributions.Normal(alpha * own, sigma).log_prob(noisy).sum()
    through_path, through_own = torch.autograd.grad(log_q, (path, own))
    return through_path, through_own
