"""Editing by an instruction, with a prior that sees the source's picture next to the one that changes."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from dfw import GuidedConfig, Query, Schedule, Weighting
from dreamfw_editing.source import Source


class Instruct(Source):
    """d loss / d z = w(t) [eps_hat(z_t; y, source's picture) - eps]: SDS with a prior of edited pictures.

    For `guidance: {type: instruct-pix2pix}` (Brooks et al. 2023). The prompt is an instruction, "make it blue". Each view's
    source is the frozen scene from the same camera. Instruct-NeRF2NeRF (Haque et al. 2023) has the same prior and conditions.
    """

    class Config(GuidedConfig):
        """Timesteps, weight and guidance by the instruction; the guidance has the scale of the source."""

        guidance_scale: Schedule = 7.5
        """s_T in the prior's two-fold guidance, diffusers' convention."""
        weighting: Weighting = "sigma2"
        """w(t)."""

    config: Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps."""
        shown = replace(query, prompt=query.prompt.with_control(self.seen(query.inputs).image))
        return shown.guided(query.now(self.config.guidance_scale)) - query.noise
