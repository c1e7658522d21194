"""Losses that hold a scene to posed pictures: their colours, masks, depths and normals.

Legend: B views of H x W pixels; M the pictures' mask (B, H, W) in [0, 1], 1 where the views give none; O the render's opacity
(B, H, W), without gradient unless said otherwise.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs


class Posed(Loss):
    """A loss that compares the render with the target `target` of its views. Gradients go to the render alone."""

    target: ClassVar[str]
    """Which of `Views.targets`."""
    feature: ClassVar[str]
    """What the renderer must provide."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """The views' target, and what it is compared with."""
        return frozenset({f"target-{cls.target}", cls.feature})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def _target(self, inputs: LossInputs, rendered: Tensor) -> Tensor:
        """What the views are known to show, in dtype and device of `rendered`, which has its shape. Raises ConfigError."""
        who, name = self.dfw_name or type(self).__name__.lower(), self.target
        if inputs.of != "colour":
            raise ConfigError(f"{who}: compares the {name} of a view, and not its {inputs.of}; leave `of` out")
        if name not in inputs.views.targets:
            raise ConfigError(
                f"{who}: its views have no {name} to compare with; write views: NAME, a set in view_sets whose pictures have one"
            )
        target = inputs.views.targets[name].to(rendered)
        if target.shape != rendered.shape:
            raise ConfigError(
                f"{who}: the render has shape {tuple(rendered.shape)} and the views' {name} {tuple(target.shape)}; "
                "choose a geometry of colours and views whose targets have the size of the cameras"
            )
        return target

    @staticmethod
    def _mask(inputs: LossInputs) -> Tensor:
        """M."""
        opacity = inputs.render.opacity
        mask = inputs.views.targets.get("mask")
        return torch.ones_like(opacity) if mask is None else mask.to(opacity)

    def _shown(self, inputs: LossInputs) -> Tensor:
        """M O (B, H, W): pixels where both picture and render show the object. A ray that hits nothing has no depth or normal."""
        return (self._mask(inputs) * inputs.render.opacity).detach()


class Picture(Posed):
    """Mean over views, pixels and channels of (M (I - I'))^2, I the render and I' the picture. Magic123 (Qian et al. 2024).

    A pixel outside the mask is 0 on both sides, so what the picture shows behind the object does not count. It is still one of
    the pixels of the mean: a small object weighs little.
    """

    target = feature = "colour"

    class Config(ComponentConfig):
        """Nothing to choose; weight and views belong to the run."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0. Raises ConfigError for views without a picture, and for a render that is not a picture of colours."""
        colour = inputs.render.colour
        return (self._mask(inputs)[..., None] * (colour - self._target(inputs, colour))).square().mean()


class Mask(Posed):
    """Mean over views and pixels of (O - M)^2, with the gradient of O. Magic123 (Qian et al. 2024)."""

    target, feature = "mask", "opacity"

    class Config(ComponentConfig):
        """Nothing to choose; weight and views belong to the run."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar in [0, 1]. Raises ConfigError for views without a mask."""
        opacity = inputs.render.opacity
        return (opacity - self._target(inputs, opacity)).square().mean()


class Depth(Posed):
    """The depth d along the rays against the views' own, d'. Pixels count as M O says.

    `distance`: mean over views and pixels of M O (d - d')^2, world units squared. `correlation`: mean over views of (1 - r) / 2,
    where r is the correlation of d and d' over a view's pixels, weighted with M O. Magic123 (Qian et al. 2024), its depth prior.
    """

    target = feature = "depth"

    class Config(ComponentConfig):
        """How depths are compared; weight and views belong to the run."""

        compare: Literal["distance", "correlation"] = "distance"
        """`distance`: in world units. `correlation`: for depths of unknown scale and shift, as estimators from one view give."""

    config: Config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0, at most 1 for `correlation`. Raises ConfigError for views without depths."""
        depth = inputs.render.depth
        target, shown = self._target(inputs, depth), self._shown(inputs)
        if self.config.compare == "distance":
            return (shown * (depth - target).square()).mean()
        share = shown.flatten(1) / shown.flatten(1).sum(1, keepdim=True).clamp_min(1e-6)
        apart, wanted = (one.flatten(1) - (share * one.flatten(1)).sum(1, keepdim=True) for one in (depth, target))
        spread, wanted_spread, both = ((share * product).sum(1) for product in (apart * apart, wanted * wanted, apart * wanted))
        # a view of one depth has no correlation; without the bound its gradient would be infinite
        return ((1 - both / (spread * wanted_spread + 1e-12).sqrt()) / 2).mean()


class Normal(Posed):
    """Mean over views and pixels of M O (1 - n . n'), n the render's normal made unit and n' the views' own, in world space.

    MonoSDF (Yu et al. 2022), its angular normal loss.
    """

    target, feature = "normal", "normals"

    class Config(ComponentConfig):
        """Nothing to choose; weight and views belong to the run."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar in [0, 2]. Raises ConfigError for views without normals, and for a render without them."""
        normal = inputs.render.normal
        if normal is None:
            raise ConfigError(f"{self.dfw_name or 'normal'}: needs normals, and the renderer gave none; turn its normals on")
        cosine = (F.normalize(normal, dim=-1, eps=1e-6) * self._target(inputs, normal)).sum(-1)
        return (self._shown(inputs) * (1 - cosine)).mean()
