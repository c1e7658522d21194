"""RFDS-Rev: the drawn noise is corrected first, so that it leads to the image by the model's own account."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from dfw import Query
from dfw_losses.rfds import RFDS


class RFDSRev(RFDS):
    """RFDS with eps' = eps + r [v_y(z_t; y, t) - (eps - z)] in place of eps, r = alpha_t / (alpha_t + sigma_t), v_y unguided.

    eps' is exactly eps_y(z_t; y, t), for every schedule. It makes two network calls.
    RFDS-Rev (Yang et al. 2025), with its code's w = 1.
    """

    def direction(self, query: Query) -> Tensor:
        """v_hat(z'_t) - (eps' - z), z'_t = alpha_t z + sigma_t eps'."""
        (noise,) = query.each([query.prompt.positive])
        return super().direction(replace(query, noise=noise))
