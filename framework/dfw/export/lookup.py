"""Looks a picture up between its pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bilinear(picture: Tensor, uv: Tensor) -> Tensor:
    """Returns `picture` (H, W, C), row 0 on top, at `uv` (..., 2), whose origin is its lower left: (..., C).

    Pixel centres lie at (column + 0.5) / W. Between them it is bilinear, and beyond the outer ones constant. Gradients reach
    both.
    """
    grid = (uv * uv.new_tensor([2, -2]) + uv.new_tensor([-1, 1])).reshape(1, 1, -1, 2)
    found = F.grid_sample(picture.permute(2, 0, 1)[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0].T.reshape(*uv.shape[:-1], picture.shape[-1])
