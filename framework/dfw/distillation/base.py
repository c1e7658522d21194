"""What all score-distillation losses share: the timesteps, the weight, the guidance rule, the clipping. A loss adds its formula.

Legend: B views, C channels of side h of the guidance's space; z the encoded view, z_t = alpha_t z + sigma_t eps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from pydantic import model_validator
from torch import Tensor

from dfw.config.kinds import KINDS
from dfw.config.schedules import Ramp, Schedule, value_at
from dfw.distillation.clipping import Clip, clip_gradient
from dfw.distillation.gradient import with_gradient
from dfw.distillation.inversion import ddim_move
from dfw.distillation.rules import guided, predict_each
from dfw.distillation.timesteps import Timesteps, check_fractions, check_range, choose_timesteps, timestep_range
from dfw.distillation.weighting import Weighting, weight_at
from dfw.errors import ConfigError
from dfw.interfaces.checks import check_noise
from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import Conditioning, PromptBatch
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.loss import Loss, LossInputs, LossSetup
from dfw.interfaces.noise import Noise
from dfw.plugins.parts import Part


class DistillationConfig(ComponentConfig):
    """Timesteps, weight and clipping: the fields of every score-distillation loss."""

    t_min: Schedule = 0.02
    """Lower end of the timesteps, as a fraction of all of them; may be a ramp."""
    t_max: Schedule = 0.98
    """Upper end of the timesteps, as a fraction; a ramp such as {from: 0.98, to: 0.5} anneals it."""
    timesteps: Timesteps = "uniform"
    """uniform, stratified (one view in each of batch_size parts of the range), dreamtime (its non-increasing table), or a ramp
    that is the timestep itself, as a fraction, e.g. {from: 0.98, to: 0.3, ease: sqrt}; then t_min and t_max are ignored. A list
    of timesteps, not fractions, for a model that was distilled at a few: [249, 499, 749, 999]."""
    weighting: Weighting = "sigma2"
    """w(t): sigma2 (DreamFusion), one, alpha-sigma2, sigma-over-alpha, alpha-over-sigma, sigma; or a formula in alpha and sigma,
    e.g. "sigma**2 * sqrt(alpha)"."""
    clip: Clip | None = None
    """Bound on the weighted gradient, e.g. {limit: {from: 0.5, to: 2}}; none: no clipping."""
    noise: Part[Noise] = Part[Noise](type=KINDS["noise"].default)
    """Which noise is added to which view."""

    @model_validator(mode="after")
    def _check_timesteps(self) -> DistillationConfig:
        check_range(self.t_min, self.t_max)
        if isinstance(self.timesteps, Ramp):
            check_fractions("timesteps", self.timesteps)
        return self


class GuidedConfig(DistillationConfig):
    """Those of losses that use classifier-free guidance."""

    guidance_scale: Schedule = 100.0
    """s in eps_u + s (eps_c - eps_u), diffusers' convention: 1 is no guidance. Papers' omega is s - 1."""


@dataclass(frozen=True)
class Query:
    """One step's question to the guidance: encoded views `clean` (B, C, h, h) without graph, `timestep` (B,), `noise`, prompt."""

    guidance: Guidance
    prompt: PromptBatch
    clean: Tensor
    timestep: Tensor
    noise: Tensor
    inputs: LossInputs

    @cached_property
    def noisy(self) -> Tensor:
        """z_t = alpha_t z + sigma_t eps."""
        return self.guidance.add_noise(self.clean, self.noise, self.timestep)

    @cached_property
    def alpha_sigma(self) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t (B, 1, 1, 1)."""
        return self.guidance.schedule.at(self.timestep, self.clean)

    def guided(self, scale: float, noisy: Tensor | None = None, timestep: Tensor | None = None) -> Tensor:
        """eps_hat by classifier-free guidance, with Perp-Neg where the run asks for it, at z_t or at `noisy` and `timestep`."""
        noisy = self.noisy if noisy is None else noisy
        return guided(self.guidance, noisy, self.timestep if timestep is None else timestep, self.prompt, scale)

    def denoised(self, scale: float, steps: int) -> Tensor:
        """Returns z0 (B, C, h, h): z_t by DDIM with guided predictions, in `steps` network calls at equal distances down to 0."""
        noisy, at = self.noisy, self.timestep
        for left in range(steps - 1, 0, -1):
            after = torch.round(self.timestep * (left / steps)).long()
            noisy, at = ddim_move(self.guidance, noisy, self.guided(scale, noisy, at), at, after), after
        return self.guidance.predict_clean(noisy, at, self.guided(scale, noisy, at))

    def each(self, texts: Sequence[Conditioning]) -> tuple[Tensor, ...]:
        """eps(z_t; y, t) for each of `texts`, in one network call."""
        return predict_each(self.guidance, self.noisy, self.timestep, texts)

    def now(self, schedule: Schedule) -> float:
        """A schedule's value at this step."""
        return value_at(schedule, self.inputs.progress)


class Distillation(Loss):
    """Base of score-distillation losses: d loss / d z_b = w(t_b) direction_b / B for each encoded view b.

    A subclass gives `direction`. Elements are summed and views averaged, in every one of them, so that weights compare.
    """

    Config = DistillationConfig
    config: DistillationConfig

    @classmethod
    def requires(cls, config: DistillationConfig) -> frozenset[str]:
        """A noise predictor."""
        return frozenset({"noise-prediction"})

    def __init__(self, config: DistillationConfig) -> None:
        super().__init__()
        self.config = config
        self.noise: Noise = config.noise.build()

    def bind(self, setup: LossSetup) -> None:
        """Draws what the noise keeps during the run."""
        self.noise.initialise(setup.generator)

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar with gradient w(t) direction / B at each encoded view and value sum |w direction|^2 / (2 B)."""
        encoded = inputs.encoded
        return with_gradient(encoded, self.residual(encoded.detach(), inputs))

    @abstractmethod
    def direction(self, query: Query) -> Tensor:
        """The unweighted gradient (B, C, h, h) of each view, without graph; called under no_grad."""

    @torch.no_grad()
    def residual(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """w(t) direction, clipped, for encoded views (B, C, h, h); t, then the noise, are drawn from `inputs.generator`."""
        query = self.query(encoded, inputs)
        return self.weighted(self.direction(query), query)

    def query(self, encoded: Tensor, inputs: LossInputs) -> Query:
        """Draws timesteps and noise. Raises ConfigError in a run without guidance."""
        guidance, prompt, generator, config = inputs.guidance, inputs.prompt, inputs.generator, self.config
        if guidance is None or prompt is None:
            raise ConfigError(
                f"the loss {type(self).__name__.lower()!r} asks a guidance about a prompt, and this run has none; "
                "add a guidance: section"
            )
        low, high = timestep_range(config.t_min, config.t_max, len(guidance.schedule), inputs.progress)
        scenes = len(encoded) // inputs.cameras.together  # views that a model sees at once share their timestep
        timestep = choose_timesteps(config.timesteps, low, high, scenes, guidance.schedule, inputs.progress, generator)
        timestep = timestep.to(encoded.device).repeat_interleave(inputs.cameras.together)
        noise = self.noise(encoded, inputs)
        check_noise(self.noise, encoded, noise)
        return Query(guidance, prompt, encoded, timestep, noise, inputs)

    def weighted(self, direction: Tensor, query: Query) -> Tensor:
        """w(t) direction, within the bounds of `clip`."""
        gradient = weight_at(self.config.weighting, query.guidance.schedule, query.timestep, direction) * direction
        clip = self.config.clip
        return gradient if clip is None else clip_gradient(gradient, query.now(clip.limit), clip.by)
