"""Scores in the shipped prior's world: what the judge, a classifier trained apart, sees in the views. They work offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from dfw import ComponentConfig, Score, Scorer, Shown, prompt_list
from dfw_scorers.judge.answers import BEHIND, Meaning, names_view, ranked, read, sees_front, verdict_of
from dfw_scorers.judge.network import Judge, Verdict

STRANGE = "the prompt is not of the world that the judge knows, such as 'a red mushroom'"


class _Judged(Scorer, nn.Module):
    """Looks at all views of a run with the judge."""

    usual: ClassVar[bool] = True

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config
        self.judge = Judge.load()

    def verdict(self, run: Shown) -> Verdict:
        """Returns the log-probabilities of all views, on the CPU."""
        device = next(self.judge.parameters()).device
        parts = [verdict_of(self.judge, images.to(device)) for images in run.pictures()]
        answers = ([getattr(part, name) for part in parts] for name in ("kind", "colour", "second", "view"))
        return Verdict(*(torch.cat(answer).cpu() for answer in answers))


class Judged(_Judged):
    """R-precision: the share of views whose own prompt the judge ranks first in a list. It ranks by p(kind) p(colours).

    The figures `kind`, `colour` and `view` are the shares of views in which its first answer is right. `view` is there for
    objects that do not look the same from all sides. Of two colours both must be right.
    """

    class Config(ComponentConfig):
        """What the prompt competes with."""

        prompts: str = "@embedded"
        """A text file with a prompt in each line, or @NAME for a list that ships with dfw. The run's own prompt is always among
        them. Prompts that the judge cannot read are left out."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listed = [one for one in (read(text, self.judge) for text in prompt_list(config.prompts)) if one is not None]

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each run."""
        return [self._one(run) for run in runs]

    def _one(self, run: Shown) -> Score:
        asked = read(run.prompt, self.judge)
        if asked is None:
            return Score(details={"why": STRANGE})
        rivals = [asked, *(one for one in self.listed if one != asked)]
        verdict = self.verdict(run)
        first = (ranked(self.judge, verdict, rivals) == 0).float()
        details: dict[str, float | str] = {**self._shares(asked, verdict, run), "among": f"{len(rivals)} prompts"}
        return Score(float(first.mean()), tuple(first.tolist()), details)

    def _shares(self, asked: Meaning, verdict: Verdict, run: Shown) -> dict[str, float]:
        judge = self.judge
        kind = verdict.kind.argmax(1) == judge.kinds.index(asked.kind)
        colour = verdict.colour.argmax(1) == judge.colours.index(asked.colour)
        if asked.second is not None:
            colour &= verdict.second.argmax(1) == judge.colours.index(asked.second)
        shares = {"kind": float(kind.float().mean()), "colour": float(colour.float().mean())}
        if asked.kind in judge.facing:
            view = names_view(verdict.view.argmax(1), run.cameras.azimuth, run.cameras.elevation)
            shares["view"] = float(view.float().mean())
        return shares


class TwoFaced(_Judged):
    """1 if the judge sees a front in most views from within 50 degrees of straight behind, else 0 (the Janus problem).

    Views from more than 60 degrees above or below the horizon do not count, since they show neither side. Only objects that have
    a front are scored. The figure `behind` is the share of those views that show one.
    """

    class Config(ComponentConfig):
        """Nothing to choose."""

    better: ClassVar = "lower"
    config: Config

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each run."""
        return [self._one(run) for run in runs]

    def _one(self, run: Shown) -> Score:
        asked = read(run.prompt, self.judge)
        if asked is None:
            return Score(details={"why": STRANGE})
        if asked.kind not in self.judge.facing:
            return Score(details={"why": f"a {asked.kind} looks the same from all sides"})
        found = sees_front(self.verdict(run).view, run.cameras.azimuth, run.cameras.elevation)
        if not len(found):
            return Score(details={"why": f"no view is within {BEHIND:g} degrees of straight behind"})
        share = float(found.float().mean())
        return Score(float(share > 0.5), details={"behind": share})
