"""Random numbers of a step's views, drawn so that several devices can share the views out and still see the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Share:
    """The views `first` to `first + count` of a step's `whole` number of them, which one device renders."""

    generator: torch.Generator
    """Where the step's numbers come from; it is in the same state on every device."""
    first: int
    count: int
    whole: int
    foreign: bool = False
    """Whether numbers were drawn from the generator in another way than by `draw_views`, or for other views at a time."""
    _state: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._state = self.generator.get_state()

    def look(self) -> None:
        """Notices numbers that were drawn since the last look."""
        self.foreign |= not torch.equal(self._state, self.generator.get_state())

    def draw(self, draw: Callable[..., Tensor], shape: Sequence[int], device: torch.device, axis: int | None) -> Tensor:
        """As `draw_views`, for this share."""
        self.look()
        sides = list(shape)
        if axis is not None and sides[axis] % self.count:
            self.foreign, axis = True, None
        if axis is not None:
            rows = sides[axis] // self.count
            sides[axis] = rows * self.whole
        drawn = draw(tuple(sides), generator=self.generator, device=device)
        self._state = self.generator.get_state()
        return drawn if axis is None else drawn.narrow(axis, self.first * rows, self.count * rows)


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Inside, `draw_views` gives the numbers of `share`."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)
        share.look()


def drawn_in_pieces() -> None:
    """Says that the views which `draw_views` was asked for are not all of them: several devices then render all views each."""
    share = _SHARE.get()
    if share is not None:
        share.foreign = True


def draw_views(
    draw: Callable[..., Tensor],
    shape: Sequence[int],
    generator: torch.Generator | None,
    device: torch.device,
    axis: int | None = 0,
) -> Tensor:
    """Returns `draw(shape, generator=generator, device=device)`, for a renderer that draws numbers for its views.

    draw: `torch.rand`, `torch.randn` and the like. axis: the side of `shape` that counts views, or rays or pixels sorted by view;
    None for numbers that all views share. Where several devices render a step's views, each gets the rows of its own, and all
    take the same numbers from the generator. A renderer that draws for some views at a time gets all views on every device.
    """
    share = _SHARE.get()
    if share is None or share.generator is not generator:
        return draw(tuple(shape), generator=generator, device=device)
    return share.draw(draw, shape, device, axis)
