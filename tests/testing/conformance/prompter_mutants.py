"""A right prompter, and wrong ones: each differs in one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, Prompter, Wording, cameras_at


class Twin(Prompter):
    """The front's words and the back's, mixed by the cosine of the azimuth; each view is pushed away from the other's."""

    class Config(ComponentConfig):
        """The words."""

        front: str = "front view"
        """At azimuth 0."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def texts(self, prompt: str) -> Sequence[str]:
        return (f"{prompt}, {self.config.front}", f"{prompt}, back view")

    def closeness(self, cameras: CameraBatch) -> Tensor:
        return (1 + torch.deg2rad(cameras.azimuth).cos()) / 2

    def choose(self, cameras: CameraBatch) -> Wording:
        front = self.closeness(cameras)
        rows = torch.arange(2, device=front.device).expand(len(front), 2)
        return Wording(rows, torch.stack([front, 1 - front], 1), rows[:, 1:], front[:, None] / 2)

    def views(self) -> CameraBatch | None:
        azimuth, ones = torch.tensor([0.0, 180.0]), torch.ones(2)
        return cameras_at(azimuth, 15 * ones, 3 * ones, 40 * ones, 8, 8)


class OneText(Twin):
    """A text in place of texts."""

    def texts(self, prompt: str) -> Sequence[str]:
        return f"{prompt}, front view"


class AsManyAsWords(Twin):
    """More texts for a longer prompt."""

    def texts(self, prompt: str) -> Sequence[str]:
        return (*super().texts(prompt), *(f"{prompt}, view {k}" for k in range(len(prompt.split()) - 2)))


class ReplacesInThePrompt(Twin):
    """Takes the prompt for part of its template."""

    def texts(self, prompt: str) -> Sequence[str]:
        return tuple(f"{prompt}, {{view}} view".replace("{view}", word) for word in ("front", "back"))


class ForgetsThePrompt(Twin):
    def texts(self, prompt: str) -> Sequence[str]:
        return (super().texts(prompt)[0], "something seen from behind")


class CountsFromOne(Twin):
    def choose(self, cameras: CameraBatch) -> Wording:
        found = super().choose(cameras)
        return replace(found, rows=found.rows + 1)


class SumsToTwo(Twin):
    def choose(self, cameras: CameraBatch) -> Wording:
        found = super().choose(cameras)
        return replace(found, weights=2 * found.weights)


class PullsWhereItShouldPush(Twin):
    """Negative weights of the texts to move away from."""

    def choose(self, cameras: CameraBatch) -> Wording:
        found = super().choose(cameras)
        assert found.away_weights is not None
        return replace(found, away_weights=-found.away_weights)


class HalfATurn(Twin):
    """Right for azimuths in [-180, 180] only."""

    def closeness(self, cameras: CameraBatch) -> Tensor:
        return (1 - cameras.azimuth.abs() / 180).clamp(0, 1)


class JudgesByTheBatch(Twin):
    def closeness(self, cameras: CameraBatch) -> Tensor:
        found = super().closeness(cameras)
        return found / found.max().clamp(min=1e-6)


class AsksTheHost(Twin):
    """A loop over views in Python."""

    def closeness(self, cameras: CameraBatch) -> Tensor:
        return super().closeness(cameras) * (1.0 if float(cameras.azimuth[0]) < 1e9 else 0.0)


class ViewsInAnotherOrder(Twin):
    def views(self) -> CameraBatch | None:
        found = super().views()
        assert found is not None
        return found.select(torch.tensor([1, 0]))


class OneViewTooFew(Twin):
    def views(self) -> CameraBatch | None:
        found = super().views()
        assert found is not None
        return found.select(slice(0, 1))


class TurnsTheCameras(Twin):
    def choose(self, cameras: CameraBatch) -> Wording:
        found = super().choose(cameras)
        cameras.azimuth.abs_()
        return found


class CountsInPython(Twin):
    """Rows that are made on the CPU."""

    def choose(self, cameras: CameraBatch) -> Wording:
        found = super().choose(cameras)
        return replace(found, rows=torch.arange(2).expand(len(cameras), 2))


MUTANTS: dict[type[Twin], set[str]] = {
    OneText: {"test_texts", "test_texts_hold_the_prompt", "test_views"},
    AsManyAsWords: {"test_texts"},
    ReplacesInThePrompt: {"test_texts_hold_the_prompt"},
    ForgetsThePrompt: {"test_texts_hold_the_prompt"},
    CountsFromOne: {"test_choose", "test_views"},
    SumsToTwo: {"test_choose"},
    PullsWhereItShouldPush: {"test_choose"},
    HalfATurn: {"test_any_turn_of_the_azimuth"},
    JudgesByTheBatch: {"test_batch_invariance"},
    AsksTheHost: {"test_choose_does_not_wait"},
    ViewsInAnotherOrder: {"test_views"},
    OneViewTooFew: {"test_views"},
    TurnsTheCameras: {"test_leaves_its_inputs_alone"},
    CountsInPython: {"test_other_device"},
}
"""Wrong prompter -> the checks that catch it, and no other."""
