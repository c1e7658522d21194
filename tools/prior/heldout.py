"""The combinations that training never shows: pairs of kind and colour, and of stacked solids."""

from __future__ import annotations

from dfw_geometry.shapes import COLOURS, KINDS

_COLOURS = tuple(COLOURS)


def _pairs() -> list[tuple[str, str]]:
    """Returns at least a tenth of all pairs, spread evenly over kinds and colours."""
    chosen = []
    for number, kind in enumerate(sorted(KINDS)):
        chosen.append((_COLOURS[3 * number % 10], kind))
        if number % 4 == 0:
            chosen.append((_COLOURS[(3 * number + 5) % 10], kind))
    return chosen


HELD_OUT: frozenset[tuple[str, str]] = frozenset(_pairs())
"""Pairs (colour, kind) of single objects."""

HELD_OUT_STACKS: frozenset[tuple[str, str]] = frozenset({("ball", "cube"), ("cone", "cylinder"), ("donut", "ball")})
"""Pairs (top, bottom) of solids that training shows in no colour."""

HELD_OUT_STACK_COLOURS: frozenset[tuple[str, str]] = frozenset(
    (colour, _COLOURS[(number + 3) % 10]) for number, colour in enumerate(_COLOURS)
)
"""Pairs (colour of the top, colour of the bottom) that training shows on no stack."""


def allowed_colours(kind: str) -> list[str]:
    """Returns the colours in which training shows ``kind``."""
    return [colour for colour in COLOURS if (colour, kind) not in HELD_OUT]


def stack_allowed(top: str, bottom: str) -> bool:
    """Returns whether training shows ``top`` on ``bottom``."""
    return (top, bottom) not in HELD_OUT_STACKS
