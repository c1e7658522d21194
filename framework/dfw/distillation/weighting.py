"""The weight w(t) of a distillation gradient: by the names configurations use, or as a formula in alpha and sigma."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from dfw.distillation.formula import Value, compile_formula
from dfw.interfaces.data import NoiseSchedule

NAMED = {
    "sigma2": "sigma**2",
    "one": "1",
    "alpha-sigma2": "alpha * sigma**2",
    "sigma-over-alpha": "sigma / alpha",
    "alpha-over-sigma": "alpha / sigma",
    "sigma": "sigma",
}
"""sigma2: sigma_t^2 = 1 - abar_t (DreamFusion). one: 1 (Score Jacobian Chaining). alpha-sigma2: alpha_t sigma_t^2 (Fantasia3D).
sigma-over-alpha: sigma_t / alpha_t (SDI; LucidDreamer's code). alpha-over-sigma: alpha_t / sigma_t, SDS as the gradient of the KL
divergence itself (Poole et al. 2023, eq. 4). sigma: sigma_t."""

_VARIABLES = ("alpha", "sigma")
_PROBES = torch.linspace(0.02, 0.9, 12, dtype=torch.float64)
"""Values of sigma at which a formula must be finite and not negative; alpha = sqrt(1 - sigma^2)."""


@lru_cache(maxsize=64)
def _compiled(weighting: str) -> Value:
    return compile_formula(NAMED.get(weighting, weighting), _VARIABLES)


def check_weighting(weighting: str) -> str:
    """`weighting` itself. Raises ValueError for what is neither a name nor a formula, and for weights below 0 or not finite."""
    try:
        value = _compiled(weighting)({"alpha": (1 - _PROBES**2).sqrt(), "sigma": _PROBES})
    except ValueError as error:
        raise ValueError(f"{error}. Or one of the names {', '.join(NAMED)}") from None
    wrong = ~torch.isfinite(value) | (value < 0)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"{weighting!r} is {float(value[at]):g} where sigma is {float(_PROBES[at]):.2g}; a weight is finite and 0 or more"
        )
    return weighting


Weighting = Annotated[str, AfterValidator(check_weighting), Field(examples=[*NAMED, "sigma**2 * sqrt(alpha)"])]
"""A name of `NAMED`, or a formula in alpha, sigma (of `compile_formula`), finite and >= 0."""


def weight_at(weighting: str, schedule: NoiseSchedule, timestep: Tensor, like: Tensor) -> Tensor:
    """w(t) for `timestep` (B,), shaped (B, 1, ..., 1) to broadcast over `like` (B, ...), in its device and dtype."""
    alpha, sigma = schedule.at(timestep, like)
    return _compiled(weighting)({"alpha": alpha, "sigma": sigma})
