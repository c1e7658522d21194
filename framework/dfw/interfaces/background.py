"""What is behind the scene, for any renderer. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from dfw.interfaces.component import Component


class Background(Component, nn.Module, ABC):
    """The colour that is seen where no matter is; it stands inside a renderer."""

    kind: ClassVar[str] = "background"

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial parameters from `generator`."""

    @abstractmethod
    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Colours in [0, 1], display-referred, that broadcast to (B, H, W, 3), for unit ray directions (B, H, W, 3).

        Directions are in world space. In training mode draws come from `generator`, by `draw_views`, as in a renderer. In
        evaluation mode nothing is drawn.
        """
