"""The layers of a small network in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def layers(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Linear layers with ReLU between them: `x` (..., inputs), and weight and bias of each layer. The twin of `fast.networks`."""
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = F.relu(F.linear(x, weight, bias), inplace=True)
    return F.linear(x, weights[-2], weights[-1])
