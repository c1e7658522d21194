"""Words for each moment."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dfw import CameraBatch, ComponentConfig, Part, Prompter, Wording


class Story(Prompter):
    """The run's prompt at the first moment, another at the last, and a mixture of both between them."""

    class Config(ComponentConfig):
        """The last moment, and the words for sides."""

        until: str
        """What the scene is at its last moment."""
        views: Part[Prompter] = Part[Prompter](type="dreamfw/directional")
        """Which words describe which side."""

    config: Story.Config

    def __init__(self, config: Story.Config) -> None:
        super().__init__()
        self.config = config
        self.sides = config.views.build()

    def texts(self, prompt: str) -> Sequence[str]:
        """Those of the first moment, then those of the last."""
        return [*self.sides.texts(prompt), *self.sides.texts(self.config.until)]

    def choose(self, cameras: CameraBatch) -> Wording:
        """The side's words of both, by the time; without a time those of the first moment."""
        wording = self.sides.choose(cameras)
        time = cameras.time if cameras.time is not None else torch.zeros_like(cameras.azimuth)
        texts = len(self.sides.texts(""))
        rows = torch.cat([wording.rows, wording.rows + texts], 1)
        weights = torch.cat([wording.weights * (1 - time[:, None]), wording.weights * time[:, None]], 1)
        return Wording(rows, weights, wording.away_rows, wording.away_weights)
