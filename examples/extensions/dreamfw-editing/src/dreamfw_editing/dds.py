"""Delta denoising score: what the new prompt wants of the scene, less what the old one wants of the source."""

from __future__ import annotations

from torch import Tensor

from dfw import Query
from dreamfw_editing.source import Edit, EditConfig


class DDS(Edit):
    """d loss / d z = w(t) [eps_hat(z_t; y) - eps_hat(z_t^src; y_src)], same t and noise. DDS (Hertz et al. 2023), eq. 4.

    SDS's noise is in both terms and cancels where scene and source agree. Four network calls' worth of images a step.
    """

    class Config(EditConfig):
        """Timesteps, weight, guidance and the source's prompt."""

    config: Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps_hat of the source."""
        ours, theirs = self.both(query, self.source(query.inputs))
        return ours - theirs
