"""Surfaces must face the camera: a penalty on normals that look away from it."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs


class Orientation(Loss):
    """sum_i stop_gradient(w_i) max(0, n_i . v)^2 per ray, v the ray's direction. Ref-NeRF (Verbin et al. 2022), eq. 11.

    DreamFusion (Poole et al. 2023), appendix A.2, stops the gradient of the weights. The direction points away from the camera,
    so n . v > 0 is a surface seen from behind.
    """

    class Config(ComponentConfig):
        """Over which rays the mean is taken; the weight belongs to the run."""

        rays: Literal["all", "hit"] = "all"
        """`all`: every ray counts. `hit`: only those with an opacity above 0; empty space then changes nothing."""

    config: Config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Samples along the rays with a normal each."""
        return frozenset({"ray-samples", "normals"})

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """The mean over rays, 0 without any; gradients reach the normals alone."""
        samples = inputs.render.samples
        if samples is None or samples.normal is None:
            raise ConfigError(
                "the loss 'orientation' needs normals at the samples, and the renderer gave none; turn its normals on"
            )
        away = (samples.normal * samples.direction).sum(-1).clamp_min(0)
        opacity = inputs.render.opacity
        count = opacity.numel() if self.config.rays == "all" else (opacity > 0).sum().clamp_min(1)
        return (samples.weight.detach() * away.square()).sum() / count
