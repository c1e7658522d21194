"""Losses that hold a scene to a posed picture: its colours inside the mask, and the mask itself.

They are the reference view's reconstruction loss of Magic123 (Qian et al. 2024).

Legend: B views of H x W pixels; M the picture's mask (B, H, W) in [0, 1].
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs


class Picture(Loss):
    """Mean over views, pixels and channels of (M (I - I'))^2, I the render and I' the picture (Magic123).

    A pixel outside the mask is 0 on both sides, so what the picture shows behind the object does not count. It is still one of
    the pixels of the mean: a small object weighs little. A view set that gives no mask is compared everywhere.
    """

    class Config(ComponentConfig):
        """Nothing to choose; weight and views belong to the run."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0. Raises ConfigError for views without a picture, and for a render that is not a picture of colours."""
        if inputs.of != "colour":
            raise ConfigError(f"{self.dfw_name or 'picture'}: compares colours, not {inputs.of}; leave `of` out")
        difference = inputs.picture - _target(self, inputs, "colour", inputs.picture)
        if "mask" in inputs.views.targets:
            difference = inputs.views.targets["mask"].to(difference)[..., None] * difference
        return difference.square().mean()


class Mask(Loss):
    """Mean over views and pixels of (O - M)^2, O the opacity of the render (Magic123)."""

    class Config(ComponentConfig):
        """Nothing to choose; weight and views belong to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Requires the opacity of each pixel."""
        return frozenset({"opacity"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar in [0, 1]. Raises ConfigError for views without a mask."""
        opacity = inputs.render.opacity
        return (opacity - _target(self, inputs, "mask", opacity)).square().mean()


def _target(loss: Loss, inputs: LossInputs, name: str, rendered: Tensor) -> Tensor:
    """Returns what the views are known to show, in the shape, dtype and device of `rendered`. Raises ConfigError."""
    who = loss.dfw_name or type(loss).__name__.lower()
    if name not in inputs.views.targets:
        raise ConfigError(
            f"{who}: its views have no {name} to compare with; write views: NAME, a set in view_sets of type picture or dataset"
        )
    target = inputs.views.targets[name].to(rendered)
    if target.shape != rendered.shape:
        raise ConfigError(
            f"{who}: the render has shape {tuple(rendered.shape)} and the views' {name} {tuple(target.shape)}; "
            "choose a geometry of colours and views whose targets have the size of the cameras"
        )
    return target
