"""Right scorers, and wrong ones: each differs in one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw import ComponentConfig, Score, Scorer, Shown


class Twin(Scorer):
    """How bright the views are."""

    class Config(ComponentConfig):
        """A factor."""

        gain: float = 1.0
        """What the brightness is multiplied by."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def brightness(self, pictures: Tensor) -> Tensor:
        return self.config.gain * pictures.mean((1, 2, 3))

    def one(self, run: Shown) -> Score:
        per_view = torch.cat([self.brightness(part) for part in run.pictures(16)]).tolist()
        return Score(sum(per_view) / len(per_view), tuple(per_view), {"darkest": min(per_view), "of": f"{len(per_view)} views"})

    def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
        return [self.one(run) for run in runs]


class Together(Twin):
    """How much brighter a seed is than the mean of all."""

    together: ClassVar[bool] = True

    def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
        values = [score.value or 0.0 for score in super().score(runs)]
        return [Score(value - sum(values) / len(values)) for value in values]


class Ranks(Twin):
    """A right one that looks at the other prompts."""

    ranks: ClassVar[bool] = True

    def one(self, run: Shown) -> Score:
        return Score(float(len(run.prompts)))


class TruthForANumber(Twin):
    def one(self, run: Shown) -> Score:
        return Score(True)


class OneViewLess(Twin):
    def one(self, run: Shown) -> Score:
        found = super().one(run)
        return Score(found.value, (found.per_view or ())[1:])


class SaysNothing(Twin):
    """No score for one of the runs, and no reason."""

    def one(self, run: Shown) -> Score:
        return Score() if "car" in run.prompt else super().one(run)


class ScoresForWholeGroups(Together):
    """One number for all seeds."""

    def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
        return super().score(runs)[:1]


class KnowsNoPrompt(Twin):
    def one(self, run: Shown) -> Score:
        return Score(details={"why": "the prompt is strange"})


class Upwards(Twin):
    better: ClassVar[Any] = "upwards"


class Remembers(Twin):
    """A running mean over everything it has seen."""

    def one(self, run: Shown) -> Score:
        kept = vars(self).setdefault("kept", {})
        kept[run.prompt] = super().one(run).value
        return Score(sum(kept.values()) / len(kept))


class SortsItsScores(Together):
    """The best first, whichever run it is."""

    def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
        return sorted(super().score(runs), key=lambda score: -(score.value or 0.0))


class LooksAtPrompts(Twin):
    """Without saying so (ranks)."""

    def one(self, run: Shown) -> Score:
        return Score(float(len(run.prompts)))


class DarkensTheViews(Twin):
    def one(self, run: Shown) -> Score:
        found = super().one(run)
        run.colour.sub_(run.colour // 2)
        return found


MUTANTS: dict[type[Twin], set[str]] = {
    TruthForANumber: {"test_scores"},
    OneViewLess: {"test_scores"},
    SaysNothing: {"test_scores"},
    ScoresForWholeGroups: {"test_scores", "test_scores_follow_their_runs"},
    KnowsNoPrompt: {"test_some_run_is_judged"},
    Upwards: {"test_says_what_is_better"},
    Remembers: {"test_deterministic", "test_runs_are_judged_alone"},
    SortsItsScores: {"test_scores_follow_their_runs"},
    LooksAtPrompts: {"test_other_prompts"},
    DarkensTheViews: {"test_leaves_its_inputs_alone"},
}
"""Wrong scorer -> the checks that catch it, and no other."""
