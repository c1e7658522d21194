"""The kit for scorers: one score for each run, from its views alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.errors import ContractError
from dfw.interfaces.checks import check_scores
from dfw.interfaces.poses import orbit
from dfw.interfaces.scorer import Score, Scorer, Shown
from dfw.testing.base import ComponentTests
from dfw.testing.compare import require_same
from dfw.testing.outcomes import Skip, require
from dfw.testing.untouched import left_alone

VIEWS, SIDE = 8, 32


class ScorerTests(ComponentTests[Scorer]):
    """Checks of a `Scorer`. Write `make`, and `prompts` if it cannot judge any."""

    interface: ClassVar[type[Any]] = Scorer
    prompts: ClassVar[tuple[str, str, str, str]] = ("a red mushroom", "a blue car", "a yellow duck", "a green tree")
    """What the runs that it is shown asked for; all different."""

    def exercise(self, made: Scorer) -> None:
        """Judges some runs."""
        for run in self.runs()[:2]:
            self._score(made, [run])

    def observe(self, made: Scorer, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Every number of the scores of four runs."""
        found: dict[str, Tensor] = {}
        for index, score in enumerate(self._each(made, self.runs())):
            numbers = {"value": score.value} | {key: one for key, one in score.details.items() if not isinstance(one, str)}
            found |= {f"{key} of run {index}": torch.tensor(float(one)) for key, one in numbers.items() if one is not None}
            found |= {} if score.per_view is None else {f"views of run {index}": torch.tensor(score.per_view)}
        return found

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_scores(self) -> None:
        """There is a Score for each run, with finite numbers, one for each view, and a remark where there is no number."""
        made = self.fresh()
        for runs in (self.runs()[:1], self._seeds()) if made.together else ([run] for run in self.runs()):
            try:
                check_scores(made, self._score(made, runs), runs)
            except ContractError as error:
                promise, _, seen = str(error).rpartition("breaks its contract: ")
                require(False, "score gives a Score for each run", seen or promise, "Return [Score(...) for run in runs]")

    def test_says_what_is_better(self) -> None:
        """`better` is `higher` or `lower`, and `unit` is a text."""
        cls = type(self.fresh())
        right = cls.better in ("higher", "lower") and isinstance(cls.unit, str)
        seen = f"they are {cls.better!r} and {cls.unit!r}"
        require(right, "better is 'higher' or 'lower' and unit a text", seen, "Write better: ClassVar = 'lower'")

    def test_some_run_is_judged(self) -> None:
        """At least one of the runs that the kit shows gets a number; else no other check looks at any."""
        found = self._each(self.fresh(), self.runs())
        judged = any(score.value is not None or score.per_view for score in found)
        seen = f"it said {dict(found[0].details)!r}"
        require(judged, "a scorer judges the kit's runs", seen, "Set `prompts` to four that it can judge")

    def test_runs_are_judged_alone(self) -> None:
        """What was judged before changes nothing."""
        made = self.fresh()
        if made.together:
            raise Skip("it judges runs together")
        promise, remedy = "a run's score does not depend on what was judged before", "Keep no state between calls"
        alone = self._numbers([self._score(self.fresh(), [run])[0] for run in self.runs()])
        require_same(
            alone, self._numbers([self._score(made, [run])[0] for run in self.runs()[::-1]][::-1]), 1e-6, promise, remedy
        )

    def test_scores_follow_their_runs(self) -> None:
        """Seeds in another order get the same scores in that order."""
        made, runs = self.fresh(), self._seeds()
        if not made.together:
            raise Skip("it judges each run alone")
        promise, remedy = "each score is that of its own run", "Return the scores in the order of the runs"
        forward, backward = self._score(made, runs), self._score(made, runs[::-1])
        require_same(self._numbers(forward), self._numbers(backward[::-1]), self.tolerance, promise, remedy)

    def test_other_prompts(self) -> None:
        """Without `ranks` the prompts of other runs change nothing."""
        made, run, again = self.fresh(), self.runs()[0], self.runs()[0]
        if made.ranks:
            raise Skip("it says that scores depend on them (ranks)")
        other = replace(again, prompts=(run.prompt, "a grey pebble", "two grey pebbles"))
        given = ([run, self._seeds()[1]], [other, self._seeds()[1]]) if made.together else ([run], [other])
        here, there = (self._numbers(self._score(made, runs)) for runs in given)
        promise = "scores depend on the prompts of other runs only with ranks = True"
        require_same(here, there, 0, promise, "Set ranks, or leave Shown.prompts alone")

    def test_leaves_its_inputs_alone(self) -> None:
        """No tensor of the views is changed."""
        made = self.fresh()
        runs = self._seeds() if made.together else self.runs()[:1]
        with left_alone("a scorer only looks", {"runs": runs}):
            self._score(made, runs)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def runs(self) -> list[Shown]:
        """Four runs with prompts of their own: balls of other colours and sizes before white, each with a spot on its front."""
        colours = torch.tensor([[200, 40, 30], [30, 60, 200], [220, 200, 40], [40, 160, 60]])
        return [self._ball(index, colours[index], 0.4 + 0.1 * index) for index in range(len(self.prompts))]

    def _seeds(self) -> list[Shown]:
        """The same as seeds of one prompt."""
        first = self.runs()[0]
        return [replace(run, prompt=first.prompt, seed=index) for index, run in enumerate(self.runs())]

    def _ball(self, index: int, colour: Tensor, radius: float) -> Shown:
        cameras = orbit(VIEWS, 15.0, 3.0, 40.0, SIDE, SIDE)
        y, x = torch.meshgrid(*[(torch.arange(SIDE) + 0.5) * (2 / SIDE) - 1] * 2, indexing="ij")
        inside = x.square() + y.square() < radius**2
        spot = (x - 0.2).square() + y.square() < 0.04
        picture = torch.where(inside[..., None], colour, torch.tensor(255))
        fronts = [torch.where((spot & (view < 2))[..., None], torch.tensor(0), picture) for view in range(VIEWS)]
        opacity = (inside * 255).expand(VIEWS, SIDE, SIDE)
        return Shown(
            self.prompts[index],
            cameras,
            torch.stack(fronts).to(torch.uint8),
            opacity.to(torch.uint8).clone(),
            prompts=self.prompts,
            name="kit",
        )

    def _each(self, made: Scorer, runs: Sequence[Shown]) -> Sequence[Score]:
        """The scores of runs; as seeds of one prompt where they are judged together."""
        return self._score(made, self._seeds()) if made.together else [self._score(made, [run])[0] for run in runs]

    def _score(self, made: Scorer, runs: Sequence[Shown]) -> Sequence[Score]:
        with torch.no_grad():
            return made.score(list(runs))

    def _numbers(self, scores: Sequence[Score]) -> dict[str, Tensor]:
        values = {f"value {index}": score.value for index, score in enumerate(scores)}
        views = {f"views {index}": score.per_view for index, score in enumerate(scores)}
        return {key: torch.tensor(one, dtype=torch.float64) for key, one in (values | views).items() if one is not None}
