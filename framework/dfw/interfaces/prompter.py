"""Which text describes which view. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from dfw.interfaces.component import Component
from dfw.interfaces.data import CameraBatch, Wording


class Prompter(Component, ABC):
    """Writes the prompt for views. The core encodes each distinct text once, and looks it up without leaving the device."""

    kind: ClassVar[str] = "prompter"

    @abstractmethod
    def texts(self, prompt: str) -> Sequence[str]:
        """The V texts that views may be described by, V >= 1 and the same for every `prompt`. Raises ConfigError."""

    @abstractmethod
    def choose(self, cameras: CameraBatch) -> Wording:
        """Which of the V texts describe each view of `cameras`, with which weights. Called every step: no wait for the device."""

    def views(self) -> CameraBatch | None:
        """One camera for each of the V texts, in their order, for sheets of samples; None where there is no such view."""
        return None
