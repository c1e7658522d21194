"""Flow score distillation: score distillation that follows one path from noise to picture instead of an average over noises."""

from __future__ import annotations

from torch import Tensor

from dfw import Distillation, GuidedConfig, Noise, Part, Query, Ramp
from dfw import Timesteps as Steps
from dfw import Weighting as Weight


class FSD(Distillation):
    """d loss / d z = w(t) (eps_hat(z_t; y, t) - eps), with one eps for the run and a t that falls. FSD (Yan et al. 2024).

    With z the clean picture (z_t - sigma eps) / alpha, the ODE of the diffusion model is dz = (eps_hat - eps) d(sigma / alpha):
    the picture goes where that noise leads, not to the mean of where all noises lead. Consistent Flow Distillation (Yan et al.,
    ICLR 2025) has noise that agrees between views. Multi-view guidance and clipping work as in `sds`.
    """

    class Config(GuidedConfig):
        """Timesteps, weight, guidance and noise; defaults are those of the papers."""

        timesteps: Steps = Ramp.model_validate({"from": 0.98, "to": 0.2, "ease": "sqrt"})
        """As in `sds`. The authors' t is 0.98, 0.69, 0.40 and 0.21 after 0, 10, 50 and 100 % of a run; this ramp stays within
        0.045 of it there."""
        weighting: Weight = "sigma-over-alpha"
        """w(t), as in `sds`; sigma / alpha is the time of the ODE."""
        noise: Part[Noise] = Part[Noise](type="dreamfw-consistent-noise/surface")
        """Which noise is added to which view; one that stays the same."""

    config: FSD.Config

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps."""
        return query.guided(query.now(self.config.guidance_scale)) - query.noise
