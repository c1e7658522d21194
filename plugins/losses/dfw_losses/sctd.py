"""Segmented consistency trajectory distillation: predictions are compared at the lower end of a segment of the diffusion."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from dfw import Distillation, DistillationConfig, GuidedConfig, Query, Schedule, Weighting, ddim_move


class SCTD(Distillation):
    """d loss / d z = w(t) [(z_e^s - z_e) + (k + 1) (z_e - z_e^t)]: e is the lower end of t's segment, k the guidance scale.

    z_e = alpha_e z + sigma_e eps. Two DDIM steps without prompt lead up from z_e to z_s and z_t; s is uniform in [e, t].
    The guided prediction at z_t leads down to z_e^t in one step. It also leads to s, and from there a step without prompt ends at
    z_e^s.
    It makes four network calls. SegmentDreamer (Zhu et al. 2025), with its code's w(t) and without its loss in pixels.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance, and the segments."""

        guidance_scale: Schedule = 7.5
        """k in eps_u + k (eps_c - eps_u) of the prediction at t, diffusers' convention. k + 1 is also a factor of the gradient,
        which grows as k squared."""
        weighting: Weighting = "sigma-over-alpha"
        """w(t), by name or formula."""
        segments: PositiveInt = 5
        """How many equal segments the timesteps have. With 1, e is the clean end for every t."""

    config: SCTD.Config

    @classmethod
    def requires(cls, config: DistillationConfig) -> frozenset[str]:
        """A noise predictor that reads text."""
        return frozenset({"noise-prediction", "text"})

    def texts(self) -> tuple[str, ...]:
        """The empty text."""
        return ("",)

    def direction(self, query: Query) -> Tensor:
        """(z_e^s - z_e) + (k + 1) (z_e - z_e^t); s is drawn after the noise."""
        guidance, nothing, top = query.guidance, query.prompt.texts[""], query.timestep
        end = segment_end(top, len(guidance.schedule), self.config.segments)
        middle = end + torch.round(self._draw(query) * (top - end)).long()

        def move(noisy: Tensor, timestep: Tensor, to: Tensor) -> Tensor:
            return ddim_move(guidance, noisy, guidance.predict_noise(noisy, timestep, nothing), timestep, to)

        start = guidance.add_noise(query.clean, query.noise, end)
        noisy = move(move(start, end, middle), middle, top)
        scale = query.now(self.config.guidance_scale)
        predicted = query.guided(scale, noisy)
        by_two = move(ddim_move(guidance, noisy, predicted, top, middle), middle, end)
        by_one = ddim_move(guidance, noisy, predicted, top, end)
        return by_two - start + (scale + 1) * (start - by_one)

    def _draw(self, query: Query) -> Tensor:
        """Uniform in [0, 1), (B,): one number for all views that the model sees at once, as they share their timestep."""
        generator, together = query.inputs.generator, query.inputs.cameras.together
        draw = torch.rand(len(query.clean) // together, generator=generator, device=generator.device)
        return draw.to(query.clean.device).repeat_interleave(together)


def segment_end(timestep: Tensor, count: int, segments: int) -> Tensor:
    """The lower end (B,) int64 of the segment that holds each timestep (B,); `count` = T timesteps make `segments` equal ones.

    A segment holds its upper end and not its lower one: at t = e > 0 the gradient would vanish.
    """
    ends = torch.linspace(0, count, segments + 1, device=timestep.device).round().long()
    return ends[(torch.bucketize(timestep, ends) - 1).clamp_min(0)]
