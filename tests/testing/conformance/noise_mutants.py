"""A right noise, and wrong ones: each differs in one thing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfw import ComponentConfig, LossInputs, Noise


class Twin(Noise):
    """Half of the variance is the run's own and stays, half of it is new in every step."""

    class Config(ComponentConfig):
        """How much stays."""

        share: float = 0.5
        """Part of the variance that stays."""

    seed: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    def initialise(self, generator: torch.Generator) -> None:
        self.seed.copy_(torch.randint(2**62, (), generator=generator, device=generator.device))

    def kept(self, encoded: Tensor) -> Tensor:
        drawn = torch.randn(encoded.shape[1:], generator=torch.Generator().manual_seed(int(self.seed)))
        return drawn.to(encoded).expand_as(encoded)

    def new(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        generator = inputs.generator
        return torch.randn(encoded.shape, generator=generator, device=generator.device, dtype=encoded.dtype)

    def mixed(self, kept: Tensor, new: Tensor) -> Tensor:
        return self.config.share**0.5 * kept + (1 - self.config.share) ** 0.5 * new

    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        return self.mixed(self.kept(encoded), self.new(encoded, inputs))


class UniformInPlaceOfNormal(Twin):
    """In [0, 1): neither its mean nor its variance is right."""

    def new(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        return torch.rand(encoded.shape, generator=inputs.generator, device=inputs.generator.device, dtype=encoded.dtype)


class AddsVariances(Twin):
    """a x + b y with a + b = 1: half of the variance is lost."""

    def mixed(self, kept: Tensor, new: Tensor) -> Tensor:
        return self.config.share * kept + (1 - self.config.share) * new


class OffCentre(Twin):
    def mixed(self, kept: Tensor, new: Tensor) -> Tensor:
        return super().mixed(kept, new) + 0.3


class OneNumberTooLoud(Twin):
    """A single number of each view has twice the deviation: the whole still looks right."""

    def mixed(self, kept: Tensor, new: Tensor) -> Tensor:
        loud = torch.ones_like(kept)
        loud[:, 0, 0, 0] = 2.0
        return super().mixed(kept, new) * loud


class TheSameInEveryRun(Twin):
    """What a run keeps comes from a seed that no run draws."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.config = config.model_copy(update={"share": 1.0})

    def kept(self, encoded: Tensor) -> Tensor:
        return torch.randn(encoded.shape[1:], generator=torch.Generator().manual_seed(0)).to(encoded).expand_as(encoded)


class OneViewsNoise(Twin):
    """(C, h, w): left to broadcasting."""

    def mixed(self, kept: Tensor, new: Tensor) -> Tensor:
        return super().mixed(kept, new)[0]


class ForgetsTheSeed(Twin):
    """The run's part is an attribute that no checkpoint holds."""

    def initialise(self, generator: torch.Generator) -> None:
        self.mine = int(torch.randint(2**62, (), generator=generator, device=generator.device))

    def kept(self, encoded: Tensor) -> Tensor:
        return torch.randn(encoded.shape[1:], generator=torch.Generator().manual_seed(self.mine)).to(encoded).expand_as(encoded)


class DrawsGlobally(Twin):
    def new(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        return torch.randn_like(encoded)


class ClampsTheViews(Twin):
    def new(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        encoded.clamp_(-0.5, 0.5)
        return super().new(encoded, inputs)


class DrawsOnTheCpu(Twin):
    def new(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        return torch.randn(encoded.shape, generator=inputs.generator, dtype=encoded.dtype).to(encoded)


MUTANTS: dict[type[Twin], set[str]] = {
    UniformInPlaceOfNormal: {"test_mean_and_variance"},
    AddsVariances: {"test_mean_and_variance"},
    OffCentre: {"test_mean_and_variance"},
    OneNumberTooLoud: {"test_mean_and_variance"},
    TheSameInEveryRun: {"test_mean_and_variance"},
    OneViewsNoise: {"test_shapes"},
    ForgetsTheSeed: {"test_state_dict_restores_behaviour"},
    DrawsGlobally: {
        "test_no_global_rng",
        "test_same_seed_same_result",
        "test_deterministic",
        "test_state_dict_restores_behaviour",
        "test_float64",
        "test_other_device",
    },
    ClampsTheViews: {"test_leaves_its_inputs_alone"},
    DrawsOnTheCpu: {"test_other_device"},
}
"""Wrong noise -> the checks that catch it, and no other."""
