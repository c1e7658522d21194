"""How much of a scene an edit has changed: python compare.py SOURCE EDITED, two run directories."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import dfw
from dfw import DensityField

LEVEL = 25.0
"""Density, 1/unit, above which a point counts as matter: a quarter of what the default run's solid parts have."""
SIDE = 64


def matter(directory: str) -> Tensor:
    """Whether each of 64^3 points of the cube [-1, 1]^3 is inside the scene."""
    geometry = dfw.open(directory, device="cpu").scene.geometry
    if not isinstance(geometry, DensityField):
        raise SystemExit(f"{directory}: its geometry is not a density field")
    axis = (torch.arange(SIDE) + 0.5) * (2 / SIDE) - 1
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    with torch.no_grad():
        return geometry.density(points) > LEVEL


def iou(first: Tensor, second: Tensor) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((first | second).sum())
    return 1.0 if union == 0 else int((first & second).sum()) / union


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(f"IoU {iou(matter(sys.argv[1]), matter(sys.argv[2])):.3f}")
