"""A `vsd` loss on any prior, for its tests."""

from __future__ import annotations

import torch

from dfw import Adapter, Guidance, LossSetup
from dfw_losses.vsd import VSD


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bound(guidance: Guidance, seed: int = 0, **options: object) -> VSD:
    loss = VSD(VSD.Config.model_validate(options))
    loss.bind(LossSetup(guidance, None, None, seeded(seed)))
    return loss


def adapter_of(loss: VSD) -> Adapter:
    assert loss.adapter is not None
    return loss.adapter
