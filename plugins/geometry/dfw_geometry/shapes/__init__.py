"""Signed distance functions of the kinds in the vocabulary. They are exact ground truth in pure torch."""

from __future__ import annotations

from .library import COLOURS, KINDS, SOLIDS
from .scene import Scene, Single, Stack, parse_prompt
from .shape import RADIUS, Shape

__all__ = ["COLOURS", "KINDS", "RADIUS", "SOLIDS", "Scene", "Shape", "Single", "Stack", "parse_prompt"]
