"""A scalar with a given gradient."""

from __future__ import annotations

import pytest
import torch

from dfw.distillation.gradient import with_gradient


def test_the_given_gradient_arrives_exactly_and_the_value_is_half_its_square() -> None:
    generator = torch.Generator().manual_seed(0)
    z = (1e4 * torch.randn(3, 4, 2, 2, generator=generator)).requires_grad_()
    gradient = 1e-3 * torch.randn(3, 4, 2, 2, generator=generator)
    value = with_gradient(z, gradient)
    assert value.item() == pytest.approx(gradient.square().sum().item() / 6, rel=1e-5)
    value.backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, gradient / 3, rtol=1e-6, atol=0)  # z - (z - gradient) would have lost it
