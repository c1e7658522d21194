"""The kit over the built-in scorers; those with CLIP on a tiny random one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_clip import clip_folder
from tiny_image_reward import image_reward_folder, random_weights

from dfw.testing import ScorerTests
from dfw_scorers.clip import ClipRPrecision, ClipScore
from dfw_scorers.diversity import Diversity
from dfw_scorers.image_reward import ImageReward
from dfw_scorers.silhouette import Silhouette
from dfw_scorers.world import Judged, TwoFaced


class TestSilhouette(ScorerTests):
    component = Silhouette


class TestJudged(ScorerTests):
    component = Judged


class TestTwoFaced(ScorerTests):
    component = TwoFaced


class TestDiversity(ScorerTests):
    component = Diversity


class _WithClip(ScorerTests):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A tiny model on disk."""
        made = clip_folder(tmp_path_factory.mktemp("clip"))
        cls.options = {"model": str(made)}
        return made


class TestClipScore(_WithClip):
    component = ClipScore


class TestClipRPrecision(_WithClip):
    component = ClipRPrecision


class TestDiversityByClip(_WithClip):
    component = Diversity


class TestImageReward(ScorerTests):
    component = ImageReward

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A tiny model on disk."""
        made = image_reward_folder(tmp_path_factory.mktemp("reward"), random_weights())
        cls.options = {"model": str(made), "tokenizer": str(made)}
        return made


del _WithClip
