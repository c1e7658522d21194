"""The kit for noises: normal numbers in the shape of what they are added to, from the run's generator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.interfaces.loss import LossInputs
from dfw.interfaces.noise import Noise
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import Skip, require
from dfw.testing.state import StateChecks
from dfw.testing.step_shown import ShownStep
from dfw.testing.untouched import left_alone

_FALSE_ALARM = 1e-9
"""Probability that right noise fails `test_mean_and_variance`."""


class NoiseTests(ShownStep[Noise], StateChecks[Noise], DtypeChecks[Noise], DeviceChecks[Noise]):
    """Checks of a `Noise`. Write `make`."""

    interface: ClassVar[type[Any]] = Noise
    runs: ClassVar[int] = 1024
    """K, runs with a seed of their own, over which mean and variance of every number are taken."""

    def fresh(self, seed: int = 0) -> Noise:
        """As in a run: losses, and what stands in them, stay in training mode."""
        return super().fresh(seed).train()

    def prepare(self, made: Noise, generator: torch.Generator) -> None:
        """Draws what stays the same during a run."""
        made.initialise(generator)

    def exercise(self, made: Noise) -> None:
        """Some steps of a run."""
        for seed in (0, 1):
            inputs = self.inputs(seed=seed)
            made(self._encoded(inputs), inputs)

    def observe(self, made: Noise, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The noise of two steps."""
        steps = [self.inputs(seed=seed, dtype=dtype) for seed in (0, 1)]
        return {f"noise of step {step}": made(self._encoded(inputs), inputs) for step, inputs in enumerate(steps)}

    def draws(self, made: Noise) -> bool:
        """Whether it takes random numbers from its generator."""
        inputs = self.inputs()
        before = inputs.generator.get_state()
        made(self._encoded(inputs), inputs)
        return not torch.equal(before, inputs.generator.get_state())

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_shapes(self) -> None:
        """Noise has the shape, dtype and device of the views that it is added to, for one view and several."""
        made = self.fresh()
        for views in (1, 3):
            inputs = self.inputs(views)
            for channels in (3, 4):
                encoded = self._encoded(inputs)[:, :1].repeat(1, channels, 1, 1)
                found = made(encoded, inputs)
                promise = f"noise for views {tuple(encoded.shape)} of {encoded.dtype} has their shape, dtype and device"
                seen = f"it has shape {tuple(found.shape)} and {found.dtype}, on {found.device}"
                same = (found.shape, found.dtype, found.device) == (encoded.shape, encoded.dtype, encoded.device)
                require(same, promise, seen, "Draw with encoded.shape and encoded.dtype, or end with .to(encoded)")

    def test_mean_and_variance(self) -> None:
        """Over many runs every number has mean 0 and variance 1, as far as so many draws can tell.

        Of K draws of N(0, 1) the mean lies within +-sqrt(2 x / K) (Chernoff), and the mean square within 1 - 2 sqrt(x / K) and
        1 + 2 sqrt(x / K) + 2 x / K (Laurent and Massart 2000, lemma 1): each of these four bounds breaks with a probability of at
        most exp(-x). For E numbers x = log(4 E / 1e-9), whether they depend on each other or not.
        """
        inputs = self.inputs()
        encoded = self._encoded(inputs)
        total, squares = torch.zeros_like(encoded, dtype=torch.float64), torch.zeros_like(encoded, dtype=torch.float64)
        for run in range(self.runs):
            drawn = self.fresh(run)(encoded, replace(inputs, generator=self.generator(self.runs + run))).double()
            total, squares = total + drawn, squares + drawn.square()
        x = math.log(4 * encoded.numel() / _FALSE_ALARM)
        allowed, spread = math.sqrt(2 * x / self.runs), 2 * math.sqrt(x / self.runs)
        mean = float((total / self.runs).abs().max())
        seen = f"over {self.runs} runs the mean of a number is off by {mean:.3g}, and {allowed:.3g} could be chance"
        require(mean <= allowed, "noise has mean 0", seen, "Subtract the mean of what is drawn: randn, not rand")
        low, high = float((squares / self.runs).min()), float((squares / self.runs).max())
        seen = f"over {self.runs} runs the mean square of a number lies in {low:.3g} to {high:.3g}"
        right = low >= 1 - spread and high <= 1 + spread + 2 * x / self.runs
        require(right, "noise has variance 1", seen, "A sum a x + b y of noises has variance a^2 + b^2: divide by its root")

    def test_leaves_its_inputs_alone(self) -> None:
        """No tensor of the views and of the step is changed."""
        made, inputs = self.fresh(), self.inputs()
        encoded = self._encoded(inputs)
        with left_alone("noise only looks", {"inputs": inputs, "encoded": encoded}):
            made(encoded, inputs)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _encoded(self, inputs: LossInputs) -> Tensor:
        """What the noise is added to: the encoded views, without a graph."""
        if inputs.guidance is None:
            raise Skip("noise is added to what a guidance encodes, and `guidance` gives none")
        return inputs.encoded.detach()
