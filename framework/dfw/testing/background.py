"""The kit for backgrounds: colours for directions, drawn only while training."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.interfaces.background import Background
from dfw.testing.base import ComponentTests
from dfw.testing.compare import bounds, projected, require_finite, require_same
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import Skip, require
from dfw.testing.state import StateChecks
from dfw.testing.trained import GradientChecks
from dfw.testing.untouched import left_alone

_SIZE = (5, 7)
"""Height and width of a picture; not square."""


class BackgroundTests(
    ComponentTests[Background],
    GradientChecks[Background],
    StateChecks[Background],
    DtypeChecks[Background],
    DeviceChecks[Background],
):
    """Checks of a `Background`. Write `make`."""

    interface: ClassVar[type[Any]] = Background

    def prepare(self, made: Background, generator: torch.Generator) -> None:
        """Draws the initial parameters."""
        made.initialise(generator)

    def exercise(self, made: Background) -> None:
        """Some training steps, backwards where there is something to train."""
        made.train()
        for seed in (0, 1):
            total = made(self._directions(), self.generator(seed)).square().sum()
            if total.requires_grad:
                total.backward()
        made.zero_grad(set_to_none=True)
        made.eval()

    def observe(self, made: Background, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The colour of every ray, in evaluation mode."""
        return {"colour": self._colour(made, self._directions(dtype=dtype))}

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_shapes(self) -> None:
        """The colour broadcasts to (B, H, W, 3), in the directions' dtype, for one view and several, in both modes."""
        made = self.fresh()
        for mode in (True, False):
            for count in (1, 3):
                direction = self._directions(count)
                found = made.train(mode)(direction, self.generator())
                promise = f"the background of directions {tuple(direction.shape)} broadcasts to their shape, in their dtype"
                seen = f"it has shape {tuple(found.shape)} and {found.dtype}"
                try:
                    fits = torch.broadcast_shapes(found.shape, direction.shape) == direction.shape  # type: ignore[no-untyped-call]
                except RuntimeError:
                    fits = False
                remedy = "Give a colour for each ray (B, H, W, 3), each view (B, 1, 1, 3), or all (1, 1, 1, 3)"
                require(fits and found.shape[-1] == 3 and found.dtype == direction.dtype, promise, seen, remedy)

    def test_is_a_colour(self) -> None:
        """Colours lie in [0, 1] in every direction, straight up and down too, and are finite, in both modes."""
        made = self.fresh()
        for mode in (True, False):
            colour = made.train(mode)(self._directions(), self.generator())
            require_finite(
                {"colour": colour}, "the background is finite in every direction", "Look at the poles, where x = y = 0"
            )
            low, high = bounds(colour)
            seen = f"it runs from {low:.4g} to {high:.4g}"
            require(low >= 0 and high <= 1, "the background is a colour in [0, 1]", seen, "Put a sigmoid on the raw colour")

    def test_draws_only_while_training(self) -> None:
        """In evaluation mode nothing is drawn and nothing remembered: training steps in between change no colour."""
        made, direction, generator = self.fresh(), self._directions(), self.generator(5)
        state = generator.get_state()
        first = {"colour": made(direction, generator).detach().clone()}
        drawn = not torch.equal(state, generator.get_state())
        require(not drawn, "in evaluation mode nothing is drawn", "the generator moved on", "Draw only if self.training")
        promise = "in evaluation mode the colour depends on the direction alone"
        remedy = "Give the same colour without a generator, and keep what training draws out of evaluation"
        require_same(first, {"colour": made(direction)}, 0, promise, remedy)
        self.exercise(made)
        require_same(first, {"colour": made(direction)}, 0, promise, remedy)

    def test_training_draws_from_its_generator(self) -> None:
        """In training mode the same generator state gives the same colours."""
        made, direction = self.fresh().train(), self._directions()
        first, second = ({"colour": made(direction, self.generator(8)).detach()} for _ in range(2))
        promise, remedy = "in training mode all draws come from the generator", "Pass generator=generator to torch.rand"
        require_same(first, second, 0 if self.device == "cpu" else self.tolerance, promise, remedy)

    def test_batch_invariance(self) -> None:
        """A view of a batch, and a piece of a view, have the background that they have alone."""
        made, direction = self.fresh(), self._directions()
        whole = {"colour": self._colour(made, direction)}
        alone = {"colour": torch.cat([self._colour(made, direction[k : k + 1]) for k in range(len(direction))])}
        rows = {"colour": torch.cat([self._colour(made, part) for part in torch.split(direction, 2, dim=1)], dim=1)}
        promise, remedy = "each ray has its own background", "Use no statistics over views or rays, and no index of a pixel"
        require_same(whole, alone, self.tolerance, promise, remedy)
        require_same(whole, rows, self.tolerance, promise, remedy)

    def test_every_parameter_gets_a_gradient(self) -> None:
        """The colour trains each parameter, with a finite gradient that is not 0 everywhere."""
        made = self.fresh()
        parameters = {name: parameter for name, parameter in made.named_parameters() if parameter.requires_grad}
        if not parameters:
            raise Skip("the background has no parameters to train")
        total = projected(self.observe(made), self.generator())
        promise, remedy = "the colour trains every parameter of the background", "Use it in the colour, without detach()"
        require(total.requires_grad, promise, "the colour carries no graph", remedy)
        total.backward()  # type: ignore[no-untyped-call]
        for name, parameter in parameters.items():
            gradient = parameter.grad
            require(gradient is not None and bool(gradient.any()), promise, f"{name} gets none", remedy)
            assert gradient is not None
            require(bool(torch.isfinite(gradient).all()), promise, f"the gradient of {name} is not finite", remedy)

    def test_leaves_its_inputs_alone(self) -> None:
        """The directions are not changed."""
        made, direction = self.fresh(), self._directions()
        for mode in (True, False):
            with left_alone("a background only looks", {"direction": direction}):
                made.train(mode)(direction, self.generator())

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _directions(self, count: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
        """Unit directions (B, 5, 7, 3): random ones, with the six axes at the start of each view."""
        height, width = _SIZE
        drawn = F.normalize(2 * self.draw(count, height, width, 3, seed=1, dtype=dtype) - 1, dim=-1)
        axes = torch.eye(3, dtype=dtype, device=self.device)
        drawn[:, 0, :6] = torch.cat([axes, -axes])
        return drawn

    def _colour(self, made: Background, direction: Tensor) -> Tensor:
        colour: Tensor = made(direction)
        return colour.expand(direction.shape)
