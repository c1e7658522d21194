"""Which noise is added to which view. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dfw.interfaces.component import Component

if TYPE_CHECKING:
    from dfw.interfaces.loss import LossInputs


class Noise(Component, nn.Module, ABC):
    """A source of noise for distillation losses. Buffers of it are part of the loss's state, so that a run resumes exactly."""

    kind: ClassVar[str] = "noise"

    def initialise(self, generator: torch.Generator) -> None:
        """Draws what stays the same during a run. Called once, before the first step."""

    @abstractmethod
    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """Noise for `encoded` views (B, C, h, w) of zero mean and unit variance: the same shape, device and dtype.

        Draws come from `inputs.generator`. `inputs.render` and `inputs.cameras` say which point of the scene a pixel shows.
        """
