"""Density blobs: they place matter in the middle at the start, so that the first renders show something.

Legend: points (..., 3), world units, centred at the origin; r = |x|.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PositiveFloat
from torch import Tensor

from dfw import ComponentConfig

Placement = Literal["before", "after"]


class GaussianBlob(ComponentConfig):
    """scale exp(-r^2/(2 width^2)). DreamFusion (Poole et al. 2023), appendix A.2, adds it to the density, with 5 and 0.2."""

    form: Literal["gaussian"] = "gaussian"
    scale: PositiveFloat = 5.0
    """Height at the centre: 1/unit if placed after the activation, dimensionless before it."""
    width: PositiveFloat = 0.2
    """Standard deviation, world units."""
    placement: Placement = "after"
    """`before` or `after` the density's activation."""


class LinearBlob(ComponentConfig):
    """scale (1 - r/width). It is negative beyond `width`, so that space starts empty.

    Magic3D (Lin et al. 2023) adds it before softplus, with 10 and 0.5.
    """

    form: Literal["linear"] = "linear"
    scale: PositiveFloat = 10.0
    """Height at the centre: dimensionless before the activation, 1/unit after it."""
    width: PositiveFloat = 0.5
    """Distance from the centre at which the blob is 0, world units."""
    placement: Placement = "before"
    """`before` or `after` the density's activation. After it, negative values become 0."""


def _expand(value: Any) -> Any:
    """Reads a mapping without `form` as a linear blob."""
    return {"form": "linear", **value} if isinstance(value, dict) else value


_Blobs = Annotated[GaussianBlob | LinearBlob, Field(discriminator="form")]
BlobConfig = Annotated[_Blobs, BeforeValidator(_expand, json_schema_input_type=_Blobs)]
"""A blob by its `form`; the default is linear."""


def blob(config: GaussianBlob | LinearBlob, points: Tensor) -> Tensor:
    """Returns the blob's value (...) at `points` (..., 3)."""
    squared = points.square().sum(-1)
    if isinstance(config, GaussianBlob):
        return config.scale * torch.exp(-squared / (2 * config.width**2))
    value = config.scale * (1 - (squared + 1e-12).sqrt() / config.width)
    return value.clamp(min=0) if config.placement == "after" else value


def blob_gradient(config: GaussianBlob | LinearBlob, points: Tensor) -> Tensor:
    """Returns the gradient (..., 3) of `blob` at `points` (..., 3). It is 0 where a linear blob is cut off, and at its tip."""
    squared = points.square().sum(-1, keepdim=True)
    if isinstance(config, GaussianBlob):
        return points * (-config.scale / config.width**2 * torch.exp(-squared / (2 * config.width**2)))
    length = (squared + 1e-12).sqrt()
    slope = points * (-config.scale / config.width / length)
    return slope * (length < config.width) if config.placement == "after" else slope
