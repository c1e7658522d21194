"""Wrong priors of several views, and of none of a text: each differs in one thing from a right tiny one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import guidance_mutants
import torch
from tiny_views import TinyMultiView, TinyNovelView
from torch import Tensor

from dfw import CameraBatch, Conditioning, Guidance


class MixesScenes(TinyMultiView):
    """All images of the batch attend to each other."""

    def attend(self, tokens: Tensor, views: int) -> Tensor:
        return super().attend(tokens, len(tokens))


class AnswersEachViewAlone(TinyMultiView):
    def attend(self, tokens: Tensor, views: int) -> Tensor:
        return super().attend(tokens, 1)


class IgnoresItsCameras(TinyMultiView):
    def embedded(self, cameras: CameraBatch, like: Tensor) -> Tensor:
        return torch.zeros_like(super().embedded(cameras, like))


class TakesTheFirstScenesCameras(TinyMultiView):
    def embedded(self, cameras: CameraBatch, like: Tensor) -> Tensor:
        found = super().embedded(cameras, like)
        return found[: self.config.together].repeat(len(found) // self.config.together, 1)


class GroupsEveryFourth(TinyMultiView):
    """Image k is taken for a view of scene k mod S: right for one scene, wrong for several."""

    def attend(self, tokens: Tensor, views: int) -> Tensor:
        order = torch.arange(len(tokens), device=tokens.device).view(views, -1).T.reshape(-1)
        return super().attend(tokens[order], views)[order.argsort()]


class SeesNothing(guidance_mutants.Twin):
    @classmethod
    def sees(cls, config: Any) -> int:
        return 0


class ConditionForEveryView(TinyNovelView):
    """Four rows, in place of one that the core repeats."""

    def conditional(self) -> Conditioning:
        return Conditioning(super().conditional().embedding.repeat(4, 1, 1))


class IgnoresItsPicture(TinyNovelView):
    def conditional(self) -> Conditioning:
        return self.unconditional()


class OwnNothing(guidance_mutants.Twin):
    """Its own "no condition" is another one than the empty text's."""

    def unconditional(self) -> Conditioning:
        found = self.encode_text([""])
        return Conditioning(found.embedding + 0.1)


class ChokesOnCameras(guidance_mutants.Twin):
    """Takes any conditioning with cameras for one of its own making."""

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        found = super().predict(noisy, timestep, conditioning)
        return found if conditioning.cameras is None else found[:1]


class FirstTextForAll(TinyMultiView):
    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        return super().encode_text([texts[0]] * len(texts))


MUTANTS: dict[type[Guidance], set[str]] = {
    MixesScenes: {"test_batch_invariance", "test_guidance_scale_follows_diffusers"},  # both prompts share one batch
    AnswersEachViewAlone: {"test_views_of_a_scene_are_seen_together"},
    IgnoresItsCameras: {"test_views_of_a_scene_are_seen_together"},
    TakesTheFirstScenesCameras: {"test_batch_invariance"},
    GroupsEveryFourth: {"test_batch_invariance", "test_guidance_scale_follows_diffusers"},
    SeesNothing: {"test_views_of_a_scene_are_seen_together"},
    ConditionForEveryView: {"test_no_condition"},
    IgnoresItsPicture: {"test_prompt_changes_the_prediction"},
    OwnNothing: {"test_no_condition"},
    ChokesOnCameras: {"test_shapes"},
    FirstTextForAll: {"test_batch_invariance"},
}
"""As its neighbour's."""
