"""What the kit shows a loss: random renders, of which every tensor is a leaf, and a score model in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw.config.schedules import Progress
from dfw.interfaces.data import CameraBatch, Conditioning, PromptBatch, RaySamples, RenderOutput, Views
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.loss import Loss, LossInputs, LossSetup
from dfw.interfaces.poses import orbit
from dfw.testing.base import ComponentTests
from dfw.testing.gaussian import GaussianScore
from dfw.testing.outcomes import require
from dfw.testing.randomness import kept_states
from dfw.testing.trained import GroupChecks

_SAMPLES = 4
"""Samples per ray of the rendering that losses see."""


class ShownToLoss(ComponentTests[Loss], GroupChecks[Loss]):
    """Random renders, their cameras, a prompt and a score model in closed form."""

    interface: ClassVar[type[Any]] = Loss
    side: ClassVar[int] = 4
    """Pixels of a view, and of the guidance's images."""

    def guidance(self) -> Guidance | None:
        """The score model that the loss asks: one in closed form. Return None for a loss that asks none."""
        return GaussianScore(self.side)

    def prompt(self) -> tuple[str, str]:
        """The prompt and the negative one; the guidance knows them."""
        return "left", ""

    def prepare(self, made: Loss, generator: torch.Generator) -> None:
        """Binds it to the guidance, as a run does before its first step."""
        guidance = self.guidance()
        made.bind(LossSetup(None if guidance is None else guidance.to(self.device), None, None, generator))

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
        """The value, and the gradient with respect to everything rendered."""
        inputs = self.inputs(dtype=dtype)
        value = made(inputs)
        gradients = self._gradients(value, inputs.render)
        return {"value": value.detach()} | {name: g for name, g in gradients.items() if g is not None}

    def inputs(self, views: int = 3, copies: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> LossInputs:
        """What a step shows the loss: `views` different random renders, each `copies` times, all of whose tensors are leaves."""
        rows = torch.arange(views, device=self.device).repeat_interleave(copies)
        return self._inputs(rows, seed, dtype)

    def trained_elsewhere(self, made: Loss) -> Iterable[nn.Parameter]:
        """What the loss's own optimisers step."""
        return [p for optimizer in made.optimizers().values() for group in optimizer.param_groups for p in group["params"]]

    def draws(self, made: Loss) -> bool:
        """Whether the loss takes random numbers from its generator."""
        inputs = self.inputs()
        before = inputs.generator.get_state()
        made(inputs)
        return not torch.equal(before, inputs.generator.get_state())

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _leaves(self, render: RenderOutput) -> dict[str, Tensor]:
        leaves = {"colour": render.colour, "opacity": render.opacity, "depth": render.depth}
        assert render.normal is not None
        assert render.samples is not None
        assert render.samples.normal is not None
        leaves |= {"normal": render.normal, "sample weight": render.samples.weight}
        return leaves | {"sample normal": render.samples.normal}

    def _gradients(self, value: Tensor, render: RenderOutput) -> dict[str, Tensor | None]:
        leaves = self._leaves(render)
        remedy = "Compute it from the render without detach(); a given gradient needs a surrogate that autograd sees"
        require(value.requires_grad, "a loss trains the scene", "its value carries no graph", remedy)
        return dict(zip(leaves, torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True), strict=True))

    def _inputs(self, rows: Tensor, seed: int, dtype: torch.dtype) -> LossInputs:
        """Views `rows` (B,) of an endless row of random renders."""
        kinds, side = int(rows.max()) + 1, self.side
        guidance = self.guidance()
        guidance = None if guidance is None else guidance.to(self.device)

        def leaf(*shape: int, seed: int) -> Tensor:
            return torch.cat([self.draw(1, *shape, seed=100 * seed + k, dtype=dtype) for k in range(kinds)])[rows]

        colour, opacity = leaf(side, side, 3, seed=1), 0.05 + 0.9 * leaf(side, side, seed=2)
        depth, normal = 2 + leaf(side, side, seed=3), leaf(side, side, 3, seed=4) - 0.5
        render = RenderOutput(
            colour.requires_grad_(),
            opacity.requires_grad_(),
            depth.requires_grad_(),
            F.normalize(normal, dim=-1).requires_grad_(),
            self._samples(leaf(side * side * _SAMPLES, seed=5), leaf(side * side * _SAMPLES, 3, seed=6)),
        )
        cameras = self._cameras(rows, dtype)
        text = None
        if guidance is not None:
            with torch.no_grad():
                positive, negative = self.prompt()
                asked = {wish: self._text(guidance, wish.replace("{prompt}", positive), cameras) for wish in self._wishes()}
                text = PromptBatch(self._text(guidance, positive, cameras), self._text(guidance, negative, cameras), texts=asked)
        return LossInputs(render, Views(cameras), text, guidance, Progress(10, 100), self.generator(seed))

    def _wishes(self) -> tuple[str, ...]:
        with kept_states():  # a constructor may draw: what counts is what is there after `bind`
            return self.make().texts()

    def _text(self, guidance: Guidance, words: str, cameras: CameraBatch) -> Conditioning:
        return replace(guidance.encode_text([words] * len(cameras)), cameras=cameras)

    def _samples(self, weight: Tensor, normal: Tensor) -> RaySamples:
        """`_SAMPLES` samples on each ray, that look along -z."""
        count = weight.numel()
        ray = torch.arange(count // _SAMPLES, device=weight.device).repeat_interleave(_SAMPLES)
        distance = (2 + torch.linspace(0, 1, _SAMPLES, device=weight.device, dtype=weight.dtype)).repeat(count // _SAMPLES)
        direction = weight.new_tensor([0.0, 0.0, -1.0]).expand(count, 3)
        unit = F.normalize(normal.reshape(-1, 3) - 0.5, dim=-1)
        return RaySamples((weight.flatten() / _SAMPLES).requires_grad_(), ray, distance, direction, unit.requires_grad_())

    def _cameras(self, rows: Tensor, dtype: torch.dtype) -> CameraBatch:
        """One of eight cameras around the scene for each view."""
        found = orbit(8, 15.0, 3.0, 40.0, self.side, self.side, self.device).select(rows % 8)
        parts = ("camera_to_world", "fov_y", "azimuth", "elevation", "distance")
        return replace(found, **{name: getattr(found, name).to(dtype) for name in parts})
