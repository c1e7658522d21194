"""Noise that distillation losses add to views: new in each step, or the same for the whole run."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw import ComponentConfig, LossInputs, Noise


class Gaussian(Noise):
    """Independent normal numbers for each view and step, as DreamFusion (Poole et al. 2023)."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """New noise (B, C, h, w)."""
        generator = inputs.generator
        drawn = torch.randn(encoded.shape, generator=generator, device=generator.device, dtype=encoded.dtype)
        return drawn.to(encoded.device)


class Fixed(Noise):
    """One picture of noise for all views and steps of a run. Consistent3D (Wu et al. 2024), section 4.

    The noise of a guidance's space is drawn from a seed that belongs to the loss's state, so that a resumed run sees the same.
    """

    class Config(ComponentConfig):
        """Nothing to choose."""

    seed: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self._drawn: Tensor | None = None  # made once for a space, from the seed
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the seed."""
        self.seed.copy_(torch.randint(2**62, (), generator=generator, device=generator.device))
        self._drawn = None

    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        """The same noise for every view, (B, C, h, w)."""
        drawn = self._drawn
        if drawn is None or drawn.shape != encoded.shape[1:] or drawn.device != encoded.device or drawn.dtype != encoded.dtype:
            generator = torch.Generator().manual_seed(int(self.seed))
            drawn = self._drawn = torch.randn(encoded.shape[1:], generator=generator).to(encoded)
        return drawn.expand_as(encoded)


def _forget(noise: Fixed, _keys: object) -> None:
    """Another seed has come with a state."""
    noise._drawn = None
