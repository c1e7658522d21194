"""What a run asks of its processes, answered by one, which is all that most runs have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dfw.interfaces.data import CameraBatch, RenderOutput
    from dfw.interfaces.geometry import Geometry
    from dfw.interfaces.guidance import Guidance
    from dfw.interfaces.renderer import Renderer


class Alone:
    """A run's only process. `Party` does the same things together with others."""

    rank: int = 0
    """Which of the run's processes this is; 0 leads."""
    count: int = 1
    """How many there are."""

    def announce(self, orders: Callable[[], dict[str, Any]]) -> None:
        """Says what the other processes are to train: JSON."""

    def placed(self, device: str) -> str:
        """Returns the name of this process's device, where the configuration says `device`. Raises ConfigError."""
        return device

    def share(self, guidances: Iterable[Guidance]) -> None:
        """Lets each process evaluate some of the rows that these are asked."""

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, libraries do not see that this process is one of several."""
        yield

    @contextmanager
    def training(self, state: Callable[[], list[torch.Tensor]], step: int) -> Iterator[None]:
        """Inside, the processes are connected. Raises ProcessError if their `state` or `step` differs."""
        yield

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Inside, rendering and guidance are shared."""
        yield

    def agree(self, stop: bool) -> bool:
        """Returns whether any process says `stop`."""
        return stop

    def render(self, renderer: Renderer, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator) -> RenderOutput:
        """Returns the render of all `cameras`."""
        output: RenderOutput = renderer(geometry, cameras, generator)
        return output

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their mean over the processes."""


ALONE = Alone()
