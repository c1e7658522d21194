"""Checks of where and in which numbers a component works: its dtype and its device come from the data."""

from __future__ import annotations

from copy import copy

import torch
from torch import nn

from dfw.testing.compare import require_finite, require_same
from dfw.testing.core import Core, Made
from dfw.testing.experimental_device import stand_in
from dfw.testing.outcomes import Skip, require


class DeviceChecks(Core[Made]):
    """Finite numbers, a device that stands in for a GPU, and a GPU."""

    def test_outputs_are_finite(self) -> None:
        """No output is infinite or no number."""
        require_finite(self.observe(self.fresh()), "every output is a finite number", "Look for 0/0 and log 0")

    def test_other_device(self) -> None:
        """On a second device, one that stands in for a GPU on any machine, it works as on the CPU and stays there."""
        if self.device != "cpu":
            raise Skip(f"the checks run on {self.device} already")
        first = self.fresh()
        here = {name: value.detach().clone() for name, value in self.observe(first).items()}
        promise, remedy = (
            "device comes from the data",
            "Create tensors on the inputs' device; register what must move as a buffer",
        )
        with stand_in() as second:
            there = copy(self)
            there.device = str(second.device)  # type: ignore[misc]
            try:
                made = there.fresh()
                outputs = {name: value.detach() for name, value in there.observe(made).items()}
                back = {name: value.cpu().clone() for name, value in outputs.items()}
                there.exercise(made)
            except (RuntimeError, TypeError) as error:
                if isinstance(error, NotImplementedError) and "with arguments from the 'CPU' backend" in str(error):
                    raise Skip(f"the stand-in lacks an operator: {str(error).partition(' with ')[0]}") from error
                raise AssertionError(f"{promise}; {str(error).splitlines()[0]}. {remedy}.") from error
            for name, value in outputs.items():
                require(value.device == second.device, promise, f"{name} came on {value.device}", remedy)
        self._skip_if_another(first, made)
        promise = "two devices agree but for rounding"
        require_same(here, back, 10 * self.tolerance, promise, "Look for a path that only one device takes")

    def test_cuda(self) -> None:
        """On a CUDA device it gives CUDA tensors and agrees with the CPU."""
        if not torch.cuda.is_available():
            raise Skip("this machine has no CUDA device")
        if self.device != "cpu":
            raise Skip(f"the checks run on {self.device} already")
        made = self.fresh()
        here = self.observe(made)
        there = copy(self)
        there.device = "cuda"  # type: ignore[misc]
        there.place(made)
        outputs = there.observe(made)
        for name, value in outputs.items():
            promise, remedy = (
                "device comes from the data",
                "Create tensors on the inputs' device; move plain attributes in _apply",
            )
            require(value.is_cuda, promise, f"{name} came on {value.device}", remedy)
        if there.draws(made):
            return  # the same seed gives other numbers on another device
        self._skip_if_another(self.fresh(), made)
        promise = "CPU and CUDA agree but for rounding"
        require_same(here, outputs, 100 * self.tolerance, promise, "Look for a kernel that differs between the devices")

    def _skip_if_another(self, here: Made, there: Made) -> None:
        """Skips the rest of a check if the component's `facts` say that it is another one on another device."""
        before, after = here.facts(), there.facts()
        changed = [f"{name} {value} here, {after.get(name)} there" for name, value in before.items() if value != after.get(name)]
        if changed:
            raise Skip(f"its facts differ between the devices: {'; '.join(changed)}")


class DtypeChecks(Core[Made]):
    """For kinds that are given floating-point tensors."""

    def test_float64(self) -> None:
        """In float64 it gives float64 and agrees with float32."""
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        single, double = self.fresh(), self.fresh()
        if isinstance(double, nn.Module):
            double.double()
        outputs = self.observe(double, torch.float64)
        for name, value in outputs.items():
            promise, remedy = (
                "float64 inputs give float64 outputs",
                "Create tensors like the inputs (new_zeros, zeros_like, .to(x))",
            )
            require(value.dtype == torch.float64, promise, f"{name} came as {value.dtype}", remedy)
        if self.draws(single):
            return  # the same generator gives other numbers in another dtype
        promise = "float64 and float32 agree but for rounding"
        require_same(self.observe(single), outputs, 10 * self.tolerance, promise, "Look for a value that was rounded on the way")
