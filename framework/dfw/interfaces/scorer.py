"""How good what a run made is, judged from pictures of it. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dfw.interfaces.component import Component
from dfw.interfaces.data import CameraBatch, Record


@dataclass(frozen=True)
class Shown(Record):
    """A finished run as a protocol shows it: B views of H x W, on the CPU.

    They are bytes, because 810 views of 512 pixels take almost a gigabyte even so.
    """

    prompt: str
    """What was asked for; empty for a run without a text."""
    cameras: CameraBatch
    """The B views."""
    colour: Tensor
    """(B, H, W, 3) uint8, display-referred."""
    opacity: Tensor
    """(B, H, W) uint8; 255 is opaque."""
    normal: Tensor | None = None
    """(B, H, W, 3) uint8, (n + 1)/2 of world-space unit normals times the opacity; None where the renderer gives none."""
    prompts: tuple[str, ...] = ()
    """Those of all runs that are evaluated together, this one's among them; none stands there twice."""
    name: str = ""
    """The method: the `name` of the run's configuration."""
    seed: int = 0
    """The run's."""

    def __len__(self) -> int:
        return len(self.cameras)

    def pictures(self, count: int = 16) -> Iterator[Tensor]:
        """Gives the views in order, at most `count` at a time: float32 (b, 3, H, W) in [0, 1]."""
        for part in torch.split(self.colour, count):
            yield part.permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class Score:
    """What a scorer says of one run."""

    value: float | None = None
    """The score; None: the protocol makes it of `per_view`, by their mean or as its benchmark does."""
    per_view: tuple[float, ...] | None = None
    """One number for each view."""
    details: Mapping[str, float | str] = field(default_factory=dict)
    """Numbers: further figures, averaged and compared as the score is. Texts: remarks, such as why there is no score."""


class Scorer(Component, ABC):
    """One measure of what runs made, which `dfw evaluate` chooses by name.

    A torch module is moved to the device on which runs are shown.
    """

    kind: ClassVar[str] = "scorer"
    unit: ClassVar[str] = ""
    """Of the value; empty for a number without one."""
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    """Which of two values is the better one."""
    together: ClassVar[bool] = False
    """Whether runs of one method and prompt that differ in their seed are judged together; else each is judged alone."""
    ranks: ClassVar[bool] = False
    """Whether scores depend on `Shown.prompts`, those of the other runs."""
    usual: ClassVar[bool] = False
    """Of a built-in one: whether it is used where none is named. It needs no download, and judges every run or says why not."""

    @abstractmethod
    def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
        """Returns a score for each of `runs`, in their order.

        There is one run, or with `together` all of one method and prompt. All were shown by the same protocol. Gradients are off.
        A run that cannot be judged has neither `value` nor `per_view`, and a remark in `details` that says why.
        """
