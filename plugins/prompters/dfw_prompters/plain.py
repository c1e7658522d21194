"""The prompt as it is written, the same for every view."""

from __future__ import annotations

import torch

from dfw import CameraBatch, ComponentConfig, Prompter, Wording


class Plain(Prompter):
    """No words for views: for 2D runs, and for priors that know their cameras otherwise."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def texts(self, prompt: str) -> tuple[str, ...]:
        """The prompt."""
        return (prompt,)

    def choose(self, cameras: CameraBatch) -> Wording:
        """The one text for every view."""
        weights = torch.ones_like(cameras.azimuth)[:, None]
        return Wording(torch.zeros_like(weights, dtype=torch.long), weights)
