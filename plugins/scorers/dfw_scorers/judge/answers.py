"""What follows from the judge's answers: which prompt a picture shows, and whether an object has two fronts.

Legend: B views.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw_scorers.judge.network import Judge, Verdict

SIDE = 64
"""Pixels of what the judge looks at."""
FRONT = (7, 0, 1)
"""Sectors of 45 degrees that are called front: front right, front, front left."""
BEHIND = 50.0
"""Degrees of azimuth from straight behind within which a view is one from behind."""
OVERHEAD = 60.0
"""Degrees above the horizon from which on a view is called overhead, as the prior's captions have it."""

_THING = r"(?:a|an|the) (?P<colour{0}>\w+) (?P<kind{0}>\w+)"
_PROMPT = re.compile(_THING.format("") + "(?: on " + _THING.format("2") + ")?")


@dataclass(frozen=True)
class Meaning:
    """What a prompt of the shipped prior's world asks for."""

    kind: str
    """One of the judge's: `mushroom`, `cube on cylinder`."""
    colour: str
    second: str | None
    """Colour of the lower solid where one stands on another."""


def read(prompt: str, judge: Judge) -> Meaning | None:
    """Reads "a red mushroom" or "a red cube on a green cylinder". None for any other text."""
    found = _PROMPT.fullmatch(" ".join(prompt.lower().split()).strip(" ."))
    if found is None:
        return None
    kind = found["kind"] if found["kind2"] is None else f"{found['kind']} on {found['kind2']}"
    known = kind in judge.kinds and found["colour"] in judge.colours and found["colour2"] in (None, *judge.colours)
    return Meaning(kind, found["colour"], found["colour2"]) if known else None


def verdict_of(judge: Judge, images: Tensor) -> Verdict:
    """Returns the judge's log-probabilities for images (B, 3, H, W) in [0, 1] of any size."""
    small = F.interpolate(images, (SIDE, SIDE), mode="area")
    verdict = judge(small)
    return Verdict(*(logits.log_softmax(-1) for logits in (verdict.kind, verdict.colour, verdict.second, verdict.view)))


def likelihood(judge: Judge, verdict: Verdict, meaning: Meaning) -> Tensor:
    """Returns log p(kind, colours | image), (B,)."""
    score = verdict.kind[:, judge.kinds.index(meaning.kind)] + verdict.colour[:, judge.colours.index(meaning.colour)]
    return score if meaning.second is None else score + verdict.second[:, judge.colours.index(meaning.second)]


def ranked(judge: Judge, verdict: Verdict, meanings: Sequence[Meaning]) -> Tensor:
    """Returns which of `meanings` each image shows most likely, (B,) int64."""
    return torch.stack([likelihood(judge, verdict, one) for one in meanings], 1).argmax(1)


def names_view(guess: Tensor, azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Returns whether the views (B,) int64 that the judge names are those at these angles (B,), degrees.

    A sector reaches 22.5 degrees to both sides. Between two sectors either is right.
    """
    apart = ((azimuth - 45.0 * guess + 180) % 360 - 180).abs()
    overhead = elevation > OVERHEAD
    return torch.where(overhead, guess == 8, (guess < 8) & (apart <= 22.5 + 1e-3))


def sees_front(view: Tensor, azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Returns whether each view from behind (three back sectors) looks like one from the front (three front sectors).

    view: log-probabilities (B, 9); azimuth and elevation (B,), degrees. Booleans, one for each view from behind. Views from
    overhead, or from as far below, are none: they show neither side.
    """
    behind = (((azimuth + 360) % 360 - 180).abs() <= BEHIND) & (elevation.abs() <= OVERHEAD)
    front = view.exp()[:, list(FRONT)].sum(-1) > 0.5
    return front[behind]


def two_faced(view: Tensor, azimuth: Tensor, elevation: Tensor) -> bool:
    """Returns whether the judge sees a front in most views from behind. Arguments as `sees_front`."""
    return float(sees_front(view, azimuth, elevation).float().mean()) > 0.5
