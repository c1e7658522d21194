"""Instruct-NeRF2NeRF: views are repainted in several steps, next to pictures of the source, and the scene follows them."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import PositiveInt
from torch import Tensor

from dfw import GuidedConfig, LossInputs, Query, Schedule, Weighting, with_gradient
from dreamfw_editing.source import Source


class In2N(Source):
    """d loss / d x = w(t) (x - decode(z0)) / B at the image x: half the squared distance to the view as the prior repaints it.

    z0 follows DDIM from z_t, t drawn for each view, down to 0. A prior that sees pictures (`guidance: {type: instruct-pix2pix}`)
    sees the frozen scene from the same camera in each call. Another prior sees words alone: then this is SDEdit (Meng et al.
    2022) on every view. The paper replaces one picture of its data set every ten steps and fits all of them. Here every view of
    a step is repainted, and none is kept. Instruct-NeRF2NeRF (Haque et al. 2023), section 4.
    """

    class Config(GuidedConfig):
        """Timesteps, guidance by the words, and in how many steps the noise goes; the guidance has the scale of the source."""

        guidance_scale: Schedule = 7.5
        """s_T, diffusers' convention."""
        steps: PositiveInt = 20
        """Network calls from t down to 0, in equal steps."""
        weighting: Weighting = "one"
        """w(t)."""

    config: Config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar with that gradient; its value is half the squared distance of a view, in the mean."""
        shown = inputs.image
        with torch.no_grad():
            query = self.query(inputs.encoded.detach(), inputs)
            painted = query.guidance.decode_image(self._painted(query))
            gradient = self.weighted(shown - painted, query)
        return with_gradient(shown, gradient)

    def direction(self, query: Query) -> Tensor:
        """z - z0, in the guidance's space."""
        return query.clean - self._painted(query)

    def _painted(self, query: Query) -> Tensor:
        """z0 (B, C, h, h)."""
        asked = replace(query, prompt=query.prompt.with_control(self.seen(query.inputs).image))
        return asked.denoised(query.now(self.config.guidance_scale), self.config.steps)
