"""Normal numbers under whole-number keys: the memory of a noise that has to remember what it showed."""

from __future__ import annotations

import math

import torch
from pydantic import Field, field_validator
from torch import Tensor

from dfw import ComponentConfig, LossInputs, Noise, Ramp, Schedule, value_at

_FIRST, _SECOND = -7046029254386353131, -4658895280553007687
"""Two odd numbers with bits all over, as int64 (2^64 over the golden ratio, and splitmix64's first): they spread neighbours."""
NEVER = -1
"""The step of a table that no step has read yet."""


class Table(Noise):
    """Base of noises that read a table of independent unit normal numbers, which each step renews a little.

    A key is hashed to its entry, so the table has one size for every scene, image size and number of channels. Two keys share an
    entry with probability 2^-log2_size. Entries follow eps <- sqrt(1 - g) eps + sqrt(g) n, which keeps them unit normal: the
    stochastic flow of Consistent Flow Distillation (Yan et al. 2025); g = 0 is its ODE.
    """

    class Config(ComponentConfig):
        """How long the noise lasts, and how much of it there is."""

        renewal: Schedule = 1e-4
        """g: share of the noise's variance that is drawn anew in each step; 0 keeps it, 1 draws all of it; may be a ramp. What
        counts is g times the steps of the run: the papers' 1e-4 over 25,000 steps is 0.005 over 500."""
        log2_size: int = Field(default=20, ge=4, le=26)
        """Base-2 logarithm of the number of entries; 20 takes 4 MB in every checkpoint, and 10 ms of a CPU a step."""

        @field_validator("renewal")
        @classmethod
        def _shares(cls, value: Schedule) -> Schedule:
            for end in (value.from_, value.to) if isinstance(value, Ramp) else (value,):
                if not 0 <= end <= 1:
                    raise ValueError(f"{end:g} must lie in [0, 1], a share of the variance; the papers use 1e-4")
            return value

    config: Config
    values: Tensor
    step: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("values", torch.zeros(2**config.log2_size))
        self.register_buffer("step", torch.tensor(NEVER))
        self._step: int | None = None  # `step`, known to the host after the first call

    def initialise(self, generator: torch.Generator) -> None:
        """Draws all entries."""
        self.values.copy_(torch.randn(self.values.shape, generator=generator, device=generator.device))

    def renew(self, inputs: LossInputs) -> None:
        """Renews the entries, once a step however often the step asks. The draws come from `inputs.generator`."""
        now, share = inputs.progress.step, value_at(self.config.renewal, inputs.progress)
        if self._step is None:
            self._step = int(self.step)  # waits for the device once, after the start or a restored checkpoint
        if self._step not in (NEVER, now) and share:
            generator = inputs.generator
            drawn = torch.randn(self.values.shape, generator=generator, device=generator.device).to(self.values)
            self.values.mul_(math.sqrt(1 - share)).add_(drawn, alpha=math.sqrt(share))
        self._step = now
        self.step.fill_(now)

    def look_up(self, key: Tensor) -> Tensor:
        """The entries of `key`, int64 of any shape."""
        return self.values[(key >> 20) & (len(self.values) - 1)]

    def in_image(self, salt: int, row: Tensor, column: Tensor, like: Tensor) -> Tensor:
        """One entry for each channel of `like` (B, C, h, w) at whole-number places `row` (..., h, 1), `column` (..., 1, w)."""
        channel = torch.arange(like.shape[1], device=row.device)[:, None, None]
        return self.look_up(mixed(salt, row[..., None, :, :], column[..., None, :, :], channel)).to(like)


def mixed(*keys: Tensor | int) -> Tensor:
    """One int64 key from several, which broadcast; arithmetic wraps around."""
    total = torch.tensor(_FIRST)  # not 0, which no multiplication would move
    for key in keys:
        total = (total ^ key) * _FIRST
        total = (total ^ _shifted(total, 32)) * _SECOND
        total = total ^ _shifted(total, 29)
    return total


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Bits to the right, with zeros from the left: torch's own shift repeats the sign, which would lose it."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
