"""An exponential moving average of the scene's parameters, which pictures and files then show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Size, Tensor, nn

from dfw.interfaces.data import Resized


class Average(nn.Module):
    """a <- d a + (1 - d) p after each step, for every parameter p of the modules. Polyak and Juditsky 1992.

    The decay rises as (1 + n) / (10 + n) over the first steps n up to d, so that the initial values are soon forgotten.
    """

    steps: Tensor

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._sources = {
            f"{place}.{name}".replace(".", "/"): parameter
            for place, module in modules.items()
            for name, parameter in module.named_parameters()
        }  # a dictionary of parameters that belong to other modules: not registered here
        for name, parameter in self._sources.items():
            self.register_buffer(name, parameter.detach().clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._count = 0  # the same number on the host, so that no step waits for the device

    @torch.no_grad()
    def update(self, resized: Sequence[Resized] = ()) -> None:
        """Takes one step's values in; rows of `resized` parameters that are new begin at their own values."""
        self._count += 1
        self.steps.fill_(self._count)
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        changed = {id(one.parameter): one for one in resized}
        for name, parameter in self._sources.items():
            held = self.get_buffer(name)
            if id(parameter) in changed:
                index = changed[id(parameter)].index
                held.data = torch.where(_rows(index >= 0, parameter), held[index.clamp_min(0)], parameter.detach())
            held.lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The modules hold the averages while the block runs, then their own values again."""
        kept = {name: parameter.data for name, parameter in self._sources.items()}
        try:
            for name, parameter in self._sources.items():
                parameter.data = self.get_buffer(name)
            yield
        finally:
            for name, parameter in self._sources.items():
                parameter.data = kept[name]

    def allocate(self, shapes: Mapping[str, Size]) -> None:
        """Makes room for averages of another number of rows, before a checkpoint is restored."""
        for name, shape in shapes.items():
            if name in self._sources and self.get_buffer(name).shape != shape:
                self.get_buffer(name).data = self.get_buffer(name).new_zeros(shape)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):  # type: ignore[no-untyped-def]
        """As torch's, and the number of steps on the host."""
        found = super().load_state_dict(state_dict, strict, assign)
        self._count = int(self.steps)
        return found


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.dim() - 1))
