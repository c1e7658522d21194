"""How different the seeds of one prompt are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import field_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Score, Scorer, Shown
from dfw_scorers.clip import Clip
from dfw_scorers.hub import settled
from dfw_scorers.judge.answers import SIDE
from dfw_scorers.judge.network import Judge

SHIPPED = "judge"
ALONE = "there is one seed; evaluate several of the same method and prompt together"


class Diversity(Scorer, nn.Module):
    """The mean distance of a run to the other seeds of its method and prompt: 1 - cosine of the features of the same views.

    The mean over all seeds is the mean distance of all pairs. It is 0 for runs that look alike. A turned copy differs.
    """

    class Config(ComponentConfig):
        """Whose features are compared."""

        model: str = SHIPPED
        """`judge`, the shipped classifier, which knows only its own world; or a CLIP model, as for `clip-score`."""

        @field_validator("model")
        @classmethod
        def _place(cls, value: str) -> str:
            return value if value == SHIPPED else settled(value)

    together: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network: Any = Judge.load() if config.model == SHIPPED else Clip(config.model)

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each of the runs, which are seeds of one prompt."""
        if len(runs) < 2:
            return [Score(details={"why": ALONE})] * len(runs)
        features = torch.stack([self._features(run) for run in runs])
        apart = 1 - torch.einsum("avd,bvd->abv", features, features)
        others = ~torch.eye(len(runs), dtype=torch.bool)
        count = f"{len(runs)} seeds"
        return [
            Score(float(apart[one][others[one]].mean()), tuple(apart[one][others[one]].mean(0).tolist()), {"of": count})
            for one in range(len(runs))
        ]

    def _features(self, run: Shown) -> Tensor:
        """Returns features (B, D) of unit length, on the CPU."""
        if isinstance(self.network, Clip):
            return self.network.views(run)
        device = next(self.network.parameters()).device
        small = (F.interpolate(images.to(device), (SIDE, SIDE), mode="area") for images in run.pictures())
        return F.normalize(torch.cat([self.network.features(images).cpu() for images in small]), dim=-1)
