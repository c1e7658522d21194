"""Which views a step looks at, and what is known of them. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

from dfw.config.schedules import Progress
from dfw.interfaces.component import Component
from dfw.interfaces.data import Orbit, Views


class Cameras(Component, nn.Module, ABC):
    """A set of views: `cameras` of a run, or one of its `view_sets`."""

    kind: ClassVar[str] = "cameras"

    @classmethod
    def together(cls, config: Any) -> int:
        """How many consecutive views a model sees at once, views of one moment or frames of a clip: 1 by default.

        The same number stands in `CameraBatch.together`; the number of views a step is a multiple of it.
        """
        return 1

    @classmethod
    def largest(cls, config: Any) -> int | None:
        """Returns the side in pixels of the largest square that a guidance sees of a view; None where more pixels have a use.

        The core warns where that is more than the guidance's own resolution.
        """
        return None

    @abstractmethod
    def sample(self, progress: Progress, generator: torch.Generator) -> Views:
        """The views of the step at `progress`, on the generator's device; random draws come from `generator`."""

    def orbit(self) -> Orbit:
        """From where previews, turntables and the exported mesh look at the scene."""
        return Orbit()
