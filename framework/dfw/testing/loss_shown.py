"""How the kit uses a loss: bound as in a run, asked, and its gradients taken of all that it may look at."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dfw.interfaces.geometry import Geometry
from dfw.interfaces.loss import Loss, LossInputs
from dfw.runs.global_random import kept_states
from dfw.testing import fields
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import require
from dfw.testing.state import StateChecks
from dfw.testing.step_shown import ShownStep
from dfw.testing.trained import GroupChecks


class ShownToLoss(ShownStep[Loss], GroupChecks[Loss], StateChecks[Loss], DtypeChecks[Loss], DeviceChecks[Loss]):
    """A step of a run, and the gradients of a loss with respect to all that it sees."""

    interface: ClassVar[type[Any]] = Loss

    def geometry(self) -> Geometry:
        """The scene: two blobs of density, an uneven octahedron where `surface` is required, a ball for `signed-distance`,
        crossed edges for `signed-grid`.
        """
        wanted = self._requires()
        if "surface" in wanted:
            return fields.uneven_octahedron()
        if "signed-grid" in wanted:
            return fields.CrossedEdges()
        return fields.DistanceBall() if "signed-distance" in wanted else fields.two_blobs()

    def prepare(self, made: Loss, generator: torch.Generator) -> None:
        """Binds it to what a run has, as a run does before its first step."""
        made.bind(self._setup(generator))

    def exercise(self, made: Loss) -> None:
        """Some steps backwards, each ended, in training mode."""
        made.train()
        for seed in (0, 1):
            inputs = self.inputs(seed=seed)
            made(inputs).sum().backward()
            made.end_step(inputs)
        made.zero_grad(set_to_none=True)
        made.eval()

    def observe(self, made: Loss, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The value, and the gradient with respect to everything rendered and to the scene's parameters."""
        inputs = self.inputs(dtype=dtype)
        value = made(inputs)
        gradients = self._gradients(value, inputs)
        return {"value": value.detach()} | {name: g for name, g in gradients.items() if g is not None}

    def wishes(self) -> tuple[str, ...]:
        """What the loss itself asks for, by `texts` and `view_texts`."""
        with kept_states():  # a constructor may draw: what counts is what is there after `bind`
            made = self.make()
        return (*made.texts(), *made.view_texts())

    def trained_elsewhere(self, made: Loss) -> Iterable[nn.Parameter]:
        """What the loss's own optimisers step."""
        return [p for optimizer in made.optimizers().values() for group in optimizer.param_groups for p in group["params"]]

    def restore_optimizers(self, used: Loss, restored: Loss) -> None:
        """As a checkpoint does."""
        for key, optimizer in used.optimizers().items():
            restored.optimizers()[key].load_state_dict(deepcopy(optimizer.state_dict()))

    def draws(self, made: Loss) -> bool:
        """Whether the loss takes random numbers from its generator."""
        inputs = self.inputs()
        before = inputs.generator.get_state()
        made(inputs)
        return not torch.equal(before, inputs.generator.get_state())

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _requires(self) -> frozenset[str]:
        with kept_states():
            made = self.make()
        return type(made).requires(made.config)

    def _leaves(self, inputs: LossInputs) -> dict[str, Tensor]:
        """All that a loss may send gradients to: what is rendered, by name, and the scene's parameters, `geometry.<name>`."""
        render = inputs.render
        leaves = {"colour": render.colour, "opacity": render.opacity, "depth": render.depth}
        assert render.normal is not None
        assert render.samples is not None
        assert render.samples.normal is not None
        assert inputs.geometry is not None
        leaves |= {"normal": render.normal, "sample weight": render.samples.weight}
        leaves |= {"sample normal": render.samples.normal, **render.extras}
        leaves |= {f"sample {name}": value for name, value in render.samples.extras.items()}
        return leaves | {f"geometry.{name}": p for name, p in inputs.geometry.named_parameters() if p.requires_grad}

    def _gradients(self, value: Tensor, inputs: LossInputs) -> dict[str, Tensor | None]:
        leaves = self._leaves(inputs)
        remedy = "Compute it from the render without detach(); a given gradient needs a surrogate that autograd sees"
        require(value.requires_grad, "a loss trains the scene", "its value carries no graph", remedy)
        return dict(zip(leaves, torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True), strict=True))
