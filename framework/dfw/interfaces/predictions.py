"""What a network of a diffusion model may put out, and what that says of the noise. A new type is one row of `PREDICTIONS`.

Legend: z the clean image, eps the noise, z_t = alpha z + sigma eps; alpha and sigma broadcast over (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor


class Prediction(NamedTuple):
    """One meaning of a network's output."""

    noise: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """eps for (output, z_t, alpha, sigma)."""
    output: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """What a perfect network puts out for (z, eps, alpha, sigma)."""


PREDICTIONS: Mapping[str, Prediction] = {
    "epsilon": Prediction(lambda output, _, alpha, sigma: output, lambda z, eps, alpha, sigma: eps),
    # Salimans and Ho 2022: v = alpha eps - sigma z, where alpha^2 + sigma^2 = 1.
    "v_prediction": Prediction(
        lambda output, z_t, alpha, sigma: alpha * output + sigma * z_t, lambda z, eps, alpha, sigma: alpha * eps - sigma * z
    ),
    "sample": Prediction(lambda output, z_t, alpha, sigma: (z_t - alpha * output) / sigma, lambda z, eps, alpha, sigma: z),
    # Liu et al. 2023: v = eps - z.
    "flow": Prediction(
        lambda output, z_t, alpha, sigma: (z_t + alpha * output) / (alpha + sigma), lambda z, eps, alpha, sigma: eps - z
    ),
}
"""`Guidance.prediction_type` -> its meaning. The names are diffusers'."""
