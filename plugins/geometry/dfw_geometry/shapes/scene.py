"""The scene that a caption describes: one object, or one simple solid on another."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from .library import COLOURS, KINDS, SOLIDS
from .primitives import move, vector
from .shape import RADIUS

# Half height, half width below and half width above of each solid's model in `solids`: they bound the stack.
_SIZES = {
    "cube": (0.5, 0.72, 0.72),
    "ball": (0.5, 0.36, 0.36),
    "cylinder": (0.65, 0.45, 0.45),
    "cone": (0.65, 0.62, 0.1),
    "pyramid": (0.5, 0.92, 0.1),
    "donut": (0.26, 0.7, 0.7),
}
# Half widths by which the upper solid is scaled to the lower one.
_WIDTH = {"cube": 0.5, "ball": 0.5, "cylinder": 0.45, "cone": 0.6, "pyramid": 0.6, "donut": 0.75}
# How far the upper solid sinks into a lower one with a tip, a round top or a hole, so that the two touch over an area.
_SINK = {"cone": 0.2, "pyramid": 0.2, "ball": 0.06, "donut": 0.06}


@dataclass(frozen=True)
class Single:
    """One kind of object centred at the origin."""

    kind: str

    @property
    def name(self) -> str:
        """The noun phrase without colours."""
        return self.kind

    def distance(self, points: Tensor) -> Tensor:
        """Returns the signed distance (or a bound) ``[...]`` of points ``[..., 3]``."""
        return KINDS[self.kind].distance(points)

    def paint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns weights ``[..., 2]`` of the caption's first and second colour, and fixed colours ``[..., 3]``."""
        main, fixed = KINDS[self.kind].paint(points)
        return torch.stack((main, torch.zeros_like(main)), -1), fixed


@dataclass(frozen=True)
class Stack:
    """The solid ``top`` standing on the solid ``bottom``."""

    top: str
    bottom: str

    @property
    def name(self) -> str:
        """The noun phrase without colours."""
        return f"{self.top} on {self.bottom}"

    def _layout(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Returns (height of the centre, scale) of the top's and the bottom's model. Together they fill the ball."""
        low, high = _SIZES[self.bottom], _SIZES[self.top]
        scale = 0.85 * min(1.0, _WIDTH[self.bottom] / _WIDTH[self.top] * 1.2)
        upper = low[0] + scale * high[0] - _SINK.get(self.bottom, 0.0)
        top, base = upper + scale * high[0], -low[0]
        middle = 0.5 * (top + base)
        corners = [(base, low[1]), (low[0], low[2]), (upper - scale * high[0], scale * high[1]), (top, scale * high[2])]
        reach = max(((z - middle) ** 2 + r**2) ** 0.5 for z, r in corners)
        size = RADIUS / reach
        return ((upper - middle) * size, size * scale), (-middle * size, size)

    def _distances(self, points: Tensor) -> tuple[Tensor, Tensor]:
        (high, small), (low, large) = self._layout()
        top = KINDS[self.top].parts(move(points, z=high) / small)[0][0] * small
        bottom = KINDS[self.bottom].parts(move(points, z=low) / large)[0][0] * large
        return top, bottom

    def distance(self, points: Tensor) -> Tensor:
        """Returns the signed distance (or a bound) ``[...]`` of points ``[..., 3]``."""
        return torch.minimum(*self._distances(points))

    def paint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns weights ``[..., 2]`` of the caption's first and second colour. Fixed colours ``[..., 3]`` are zero."""
        top, bottom = self._distances(points)
        first = (top <= bottom).to(points.dtype)
        return torch.stack((first, 1.0 - first), -1), torch.zeros_like(points)


@dataclass(frozen=True)
class Scene:
    """A form with its colours: the exact solid that a caption describes."""

    form: Single | Stack
    colours: tuple[str, ...]

    def distance(self, points: Tensor) -> Tensor:
        """Returns the signed distance (or a 1-Lipschitz bound) ``[...]`` of world points ``[..., 3]``, negative inside."""
        return self.form.distance(points)

    def colour(self, points: Tensor) -> Tensor:
        """Returns the albedo ``[..., 3]`` in [0, 1] of the surface nearest to each point."""
        weights, fixed = self.form.paint(points)
        named = torch.stack([vector(COLOURS[c], points) for c in (self.colours * 2)[:2]])
        return weights @ named + fixed


def parse_prompt(text: str) -> Scene:
    """Reads the scene of "a red mushroom" or "a red cube on a blue cylinder". Ignores a trailing ", ... view".

    Raises ``ValueError`` that names the unknown words.
    """
    body = re.sub(r",[\w\s-]*\bview(\s*,\s*\w+\s+angle)?\s*$", "", text.strip().lower()).strip(" .")
    objects = []
    for phrase in body.split(" on "):
        words = [w for w in phrase.split() if w not in ("a", "an", "the")]
        known = len(words) == 2 and words[0] in COLOURS and words[1] in KINDS
        if not known:
            strange = [w for w in words if w not in COLOURS and w not in KINDS]
            detail = f"unknown words: {', '.join(strange)}" if strange else f"cannot read {phrase!r}"
            raise ValueError(f"{detail} (expected 'a COLOUR KIND', as in 'a red mushroom')")
        objects.append((words[0], words[1]))
    if len(objects) == 1:
        return Scene(Single(objects[0][1]), (objects[0][0],))
    if len(objects) == 2 and all(kind in SOLIDS for _, kind in objects):
        return Scene(Stack(objects[0][1], objects[1][1]), (objects[0][0], objects[1][0]))
    raise ValueError(f"only two of {', '.join(SOLIDS)} can stand on one another, not {body!r}")
