"""A scalar whose gradient is given: how a distillation loss hands its update direction to autograd."""

from __future__ import annotations

from torch import Tensor


def with_gradient(encoded: Tensor, gradient: Tensor) -> Tensor:
    """A scalar with d/d encoded_b = gradient_b / B, exactly, and the value sum |gradient_b|^2 / (2 B).

    encoded, gradient: (B, ...). The value is half the squared distance to a fixed target z_b - gradient_b, averaged over the
    batch: it has the stated gradient and falls when the residual does, but is not a likelihood.
    """
    fixed = gradient.detach()
    inner = (fixed * encoded).sum() / len(encoded)
    return inner - inner.detach() + fixed.square().sum() / (2 * len(encoded))
