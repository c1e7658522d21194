"""How a prior pulls at an image, over the timesteps; and whether its predictions have the mean that a closed form gives them.

Legend: B draws of noise at one timestep, C channels of side h, T timesteps of the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.special import stdtrit
from torch import Tensor

from dfw.compose import Composition
from dfw.errors import ConfigError, GuidanceError
from dfw.prior.sample import open_guidance, prompt_for
from dfw.report.plot import Line, log_plot
from dfw.runs.random_streams import derive_seed

FALSE_ALARMS = 1e-4
"""False-positive rate: how often a correct prior is rejected, over all numbers of the image and all timesteps."""


@dataclass(frozen=True)
class Probe:
    """One timestep, in root mean squares over the numbers of an image.

    mean: of E(eps_hat - eps), the pull. sds, score: standard deviations of a single draw of eps_hat - eps and of eps_hat.
    off: largest distance of the mean from its closed form, in standard errors, of any number of the image or of all together
    along the closed form (a wrong sign or size moves every number a little); None where there is no closed form.
    """

    timestep: int
    mean: float
    sds: float
    score: float
    off: float | None


@dataclass(frozen=True)
class Check:
    """What was found at each timestep, for a guidance scale; `limit`: standard errors that no mean may be off (`most_errors`)."""

    probes: list[Probe]
    scale: float
    limit: float

    @property
    def closed_form(self) -> bool:
        """Whether there was a closed form to compare with."""
        return any(probe.off is not None for probe in self.probes)

    def table(self) -> str:
        """The figures as text, one timestep a line, and what they say of the closed form."""
        lines = [f"{'t':>5} {'pull':>10} {'std sds':>10} {'std score':>10} {'off (errors)':>13}"]
        for p in self.probes:
            off = "" if p.off is None else f"{p.off:.2f}"
            lines.append(f"{p.timestep:>5} {p.mean:>10.4g} {p.sds:>10.4g} {p.score:>10.4g} {off:>13}")
        if self.closed_form:
            worst = max(p.off or 0.0 for p in self.probes)
            lines.append(
                f"the mean agrees with the closed form: at most {worst:.3g} standard errors off, of {self.limit:.3g} allowed"
            )
        else:
            lines.append("no closed form for this guidance, prompt and scale: the pull is measured, not checked")
        return "\n".join(lines)

    def svg(self, title: str) -> str:
        """The figures as a chart over t."""
        lines = [
            Line("pull: E(eps_hat \u2212 eps)", [p.mean for p in self.probes]),
            Line("std of eps_hat \u2212 eps", [p.sds for p in self.probes]),
            Line("std of eps_hat", [p.score for p in self.probes]),
        ]
        return log_plot(title, "timestep", "root mean square", [p.timestep for p in self.probes], lines)


def check_guidance_at(
    composition: Composition, image: Path | None, scale: float, points: int, draws: int, name: str | None = None
) -> Check:
    """Asks the configuration's guidance about its prompt at `image`, grey when None, at `points` timesteps, `draws` times each.

    `name`: which of several guidances. Raises GuidanceError when a closed form exists and the mean is not it, and where a
    prediction is not finite; ConfigError for a configuration without guidance.
    """
    guidance = open_guidance(composition, name)
    device = guidance.schedule.alpha.device
    generator = torch.Generator(device).manual_seed(derive_seed(composition.config.seed, "guidance-check"))
    draws = -(-draws // type(guidance).sees(guidance.config)) * type(guidance).sees(guidance.config)
    prompt = prompt_for(composition, guidance, draws, generator)

    total = len(guidance.schedule)
    timesteps = torch.linspace(0.02 * total, 0.98 * total - 1, points).round().long().tolist()
    with torch.no_grad():
        clean = guidance.encode_image(read_image(image, guidance.resolution).to(device))

        def ask(value: int) -> Probe:
            timestep = torch.full((draws,), value, device=device)
            eps = torch.randn((draws, *clean.shape[1:]), generator=generator, device=device)
            noisy = guidance.add_noise(clean.expand_as(eps), eps, timestep)
            predicted = guidance.predict_noise_guided(noisy, timestep, prompt.positive, prompt.negative, scale)
            if not predicted.isfinite().all():
                raise GuidanceError(f"the guidance predicts numbers that are not finite at timestep {value}, for scale {scale:g}")
            exact = guidance.mean_residual(clean.expand_as(eps), timestep, prompt.positive) if scale == 1 else None
            return _probe(value, predicted, eps, exact)

        probes = [ask(value) for value in timesteps]
    limit = most_errors(draws, len(probes) * (clean.numel() + 1))
    _refuse_wrong_means(probes, limit)
    return Check(probes, scale, limit)


def most_errors(draws: int, numbers: int) -> float:
    """Standard errors that the worst of `numbers` means, of `draws` >= 2 each, may be off when all are right.

    The quantile of Student's t with draws - 1 degrees of freedom at FALSE_ALARMS, shared out among the numbers (Bonferroni):
    few draws know their own error badly, and the worst of many numbers is far out.
    """
    return -float(stdtrit(draws - 1, FALSE_ALARMS / (2 * numbers)))


def _probe(timestep: int, predicted: Tensor, eps: Tensor, exact: Tensor | None) -> Probe:
    residual = (predicted - eps).double()
    mean, deviation = residual.mean(0), residual.std(0)
    off = None
    if exact is not None:
        difference = residual - exact[:1].double()
        off = max(_errors(difference), _errors((difference * exact[:1].double()).flatten(1).mean(1, keepdim=True)))
    return Probe(timestep, _rms(mean), _rms(deviation), _rms(predicted.double().std(0)), off)


def _errors(draws: Tensor) -> float:
    """The worst mean of `draws` (B, ...), in standard errors from 0; below 1e-6 lies the rounding of single precision."""
    error = (draws.std(0) / len(draws) ** 0.5).clamp_min(1e-6)
    return float((draws.mean(0) / error).abs().max())


def _refuse_wrong_means(probes: Sequence[Probe], limit: float) -> None:
    wrong = [p for p in probes if p.off is not None and not p.off <= limit]
    if wrong:
        worst = max(wrong, key=lambda p: p.off or 0.0)
        raise GuidanceError(
            f"guidance: its mean is {worst.off:.1f} standard errors from its own closed form at timestep {worst.timestep} "
            f"({len(wrong)} of {len(probes)} timesteps beyond {limit:.3g}); predict_noise and mean_residual disagree"
        )


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def read_image(path: Path | None, side: int) -> Tensor:
    """(1, 3, side, side) in [0, 1] from a picture file, stretched to the square; middle grey for None. Raises ConfigError."""
    if path is None:
        return torch.full((1, 3, side, side), 0.5)
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), dtype=np.float32)
    except OSError as error:
        raise ConfigError(f"--image {path}: cannot be read as a picture ({error}); give a PNG or JPEG file") from None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
