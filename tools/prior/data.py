"""Draws batches of composed images with captions from rounds of buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from captions import caption, neighbours, sector, view_words
from compose import compose
from heldout import HELD_OUT_STACK_COLOURS, allowed_colours, stack_allowed
from rounds import FORMS, load_rounds
from torch import Tensor

from dfw_geometry.shapes import COLOURS, KINDS, Single

_NAMES = tuple(COLOURS)
RGB = torch.tensor(list(COLOURS.values()))
STACK_SHARE = 0.15
"""Share of training images that show one solid on another."""
FACING = tuple(kind for kind, shape in KINDS.items() if not shape.turned)
"""Kinds that have a front."""


@dataclass(frozen=True)
class Words:
    """A caption, or two captions whose encodings are mixed for a view between two sectors' centres."""

    first: str
    """First caption."""
    second: str
    """Second caption."""
    share: float = 0.0
    """Share of the second one, in [0, 1)."""


@dataclass
class Batch:
    """Images ``[B, 3, S, S]`` in [0, 1], captions, and labels ``[B]``. ``second`` is -1 if there is one object."""

    images: Tensor
    words: list[Words]
    form: Tensor
    colour: Tensor
    second: Tensor
    view: Tensor
    opposite: list[Words | None]
    """The same captions with the words of the opposite or the mirrored view; None if no picture can tell the two apart."""
    cameras: dict[str, Tensor]
    """Angles and distance ``[B]``, as `random_cameras` draws them."""
    rows: Tensor
    """Rows ``[B]`` of the views in ``World.data``."""


class World:
    """The procedural world: it draws batches from all rounds in a folder. A generator decides everything."""

    def __init__(self, folder: Path, everything: bool = False, together: int = 1, silent: float = 0.05) -> None:
        """Loads the rounds in ``folder``. ``everything`` lifts the hold-out, for the judge only.

        ``together`` consecutive views are one scene. ``silent`` is the share of captions without view words.
        """
        self.everything, self.together, self.silent = everything, together, silent
        self.refresh(folder)

    def refresh(self, folder: Path) -> None:
        """Loads the rounds again, because more may have appeared."""
        data = load_rounds(folder)
        shown = [isinstance(f, Single) or self.everything or stack_allowed(f.top, f.bottom) for f in FORMS]
        keep = torch.nonzero(torch.tensor(shown)[data["form"]]).squeeze(1)
        single = torch.tensor([isinstance(f, Single) for f in FORMS])[data["form"][keep]]
        self.data = data
        self.singles, self.stacks = keep[single], keep[~single]
        self.only(())

    def only(self, kinds: tuple[str, ...]) -> None:
        """Draws only ``kinds`` from now on, or everything if empty."""
        wanted = torch.tensor([isinstance(form, Single) and form.kind in kinds for form in FORMS])
        self.chosen = self.singles[wanted[self.data["form"][self.singles]]]

    def indices(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws ``count`` views: their rows in ``data``."""
        if len(self.chosen):
            return self.chosen[torch.randint(len(self.chosen), (count,), generator=generator)]
        stacked = torch.rand(count, generator=generator) < STACK_SHARE
        one = self.singles[torch.randint(len(self.singles), (count,), generator=generator)]
        two = self.stacks[torch.randint(len(self.stacks), (count,), generator=generator)]
        return torch.where(stacked, two, one)

    def colours(self, number: int, generator: torch.Generator) -> tuple[int, int]:
        """Draws the indices of one image's colours."""
        form = FORMS[number]
        draw = torch.randint(1 << 30, (2,), generator=generator).tolist()
        if isinstance(form, Single):
            names = list(_NAMES) if self.everything else allowed_colours(form.kind)
            return _NAMES.index(names[draw[0] % len(names)]), 0
        first = draw[0] % 10
        seconds = [
            n for n in range(10) if n != first and (self.everything or (_NAMES[first], _NAMES[n]) not in HELD_OUT_STACK_COLOURS)
        ]
        return first, seconds[draw[1] % len(seconds)]

    def _words(self, number: int, colours: tuple[int, int], angles: tuple[float, float], roll: list[float]) -> Words:
        """Writes a caption: 10 % are empty, ``silent`` of all have no view words, 10 % coarse and the others fine ones.

        8 % name no colour.

        85 % of the captions with view words also name the elevation's angle. 60 % of the fine ones among those are mixed from the
        two nearest sectors, as a run with interpolated views writes them.
        """
        if roll[0] < 0.10:
            return Words("", "")
        names = (None, None) if roll[1] < 0.08 else tuple(_NAMES[c] for c in colours)
        azimuth, elevation = angles
        coarse, angle, spoken = roll[0] > 0.9, roll[2] < 0.85, roll[0] > 0.10 + self.silent

        def text(turn: float) -> str:
            view = view_words(turn, elevation, coarse, angle) if spoken else None
            return caption(FORMS[number], names, view)

        if spoken and angle and not coarse and roll[4] < 0.6:
            lower, upper, share = neighbours(azimuth)
            return Words(text(lower), text(upper), share)
        only = text(azimuth)
        return Words(only, only)

    def _opposite(self, number: int, colours: tuple[int, int], angles: tuple[float, float], roll: list[float]) -> Words | None:
        """Returns the words of the view from behind, or of the mirrored view (40 % of those over 30 degrees off the axis)."""
        azimuth, elevation = angles
        form = FORMS[number]
        mirrored = roll[3] < 0.4 and abs(math.sin(math.radians(azimuth))) > 0.5
        other = self._words(number, colours, (-azimuth if mirrored else azimuth + 180.0, elevation), roll)
        facing = isinstance(form, Single) and form.kind in FACING
        return other if facing and other != self._words(number, colours, angles, roll) else None

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draws ``count`` scenes, of ``together`` images with captions each."""
        scenes, views = self.indices(count, generator), torch.arange(self.together)
        index = (scenes[:, None] // self.together * self.together + views).flatten()
        numbers = self.data["form"][index].tolist()
        chosen = [self.colours(n, generator) for n in numbers[:: self.together]]
        colours = [pair for pair in chosen for _ in views]
        cameras = {k: self.data[k][index] for k in ("azimuth", "elevation", "fovy", "distance")}
        angles = list(zip(cameras["azimuth"].tolist(), cameras["elevation"].tolist(), strict=True))
        rolls = torch.rand(count, 5, generator=generator).repeat_interleave(self.together, 0).tolist()
        jitter = ((torch.rand(2, count, 3, generator=generator) - 0.5) * 0.1).repeat_interleave(self.together, 1)
        table = torch.tensor(colours)
        rgb = (RGB[table.T] + jitter).clamp(0, 1)
        images = compose(self.data["buffers"][index], cameras, rgb[0], rgb[1], generator, self.together)
        drawn = list(zip(numbers, colours, angles, rolls, strict=True))
        words, opposite = [self._words(*one) for one in drawn], [self._opposite(*one) for one in drawn]
        view = torch.tensor([sector(*a) for a in angles])
        form = self.data["form"][index]
        second = torch.where(form < len(KINDS), -1, table[:, 1])
        return Batch(images, words, form, table[:, 0], second, view, opposite, cameras, index)
