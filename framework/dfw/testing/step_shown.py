"""What the kit shows losses and noises: a step of a run, with random renders, targets, a scene and a score model."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.config.schedules import Progress
from dfw.interfaces.data import PICTURES, CameraBatch, Conditioning, PromptBatch, RaySamples, RenderOutput, Views
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.loss import LossInputs, LossSetup
from dfw.interfaces.poses import orbit
from dfw.interfaces.renderer import Renderer
from dfw.runs.global_random import kept_states
from dfw.testing import fields
from dfw.testing.base import ComponentTests
from dfw.testing.core import Made
from dfw.testing.gaussian import GaussianScore

_SAMPLES = 4
"""Samples per ray of the rendering that losses see."""


class ShownStep(ComponentTests[Made]):
    """Random renders of which every tensor is a leaf, their cameras and targets, a prompt, and what a run has besides."""

    side: ClassVar[int] = 4
    """Pixels of a view, and of the guidance's images."""
    of: ClassVar[str] = "colour"
    """The picture of the render that the component looks at; a name that dfw does not know becomes an extra of the render."""

    def guidance(self) -> Guidance | None:
        """The score model that is asked: one in closed form. Return None for a component that asks none."""
        return GaussianScore(self.side)

    def geometry(self) -> Geometry:
        """The scene, with parameters: by default two smooth blobs of density."""
        return fields.two_blobs()

    def renderer(self) -> Renderer:
        """What renders the scene, for a component that renders a copy of it: by default 32 samples on each ray."""
        return fields.Marcher()

    def prompt(self) -> tuple[str, str]:
        """The prompt and the negative one; the guidance knows them."""
        return "left", ""

    def wishes(self) -> tuple[str, ...]:
        """Further texts that the component asks about; `{prompt}` in one stands for the prompt."""
        return ()

    def inputs(self, views: int = 3, copies: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> LossInputs:
        """What a step shows: `views` different random renders, each `copies` times, all of whose tensors are leaves."""
        rows = torch.arange(views, device=self.device).repeat_interleave(copies)
        return self._inputs(rows, seed, dtype)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _setup(self, generator: torch.Generator) -> LossSetup:
        """What a run has before its first step."""
        return LossSetup(self._model(), self._scene(torch.float32), self.renderer().to(self.device), generator)

    def _model(self) -> Guidance | None:
        """The guidance on the device, its schedule with it, as a run has it."""
        model = self.guidance()
        if model is not None:
            model.to(self.device)
            model.schedule = model.schedule.to(self.device)
        return model

    def _scene(self, dtype: torch.dtype) -> Geometry:
        with kept_states():  # its constructor may draw
            geometry = self.geometry().to(self.device)
        geometry.initialise(self.generator(11))
        return geometry.to(dtype)

    def _inputs(self, rows: Tensor, seed: int, dtype: torch.dtype) -> LossInputs:
        """Views `rows` (B,) of an endless row of random renders."""
        kinds, side = int(rows.max()) + 1, self.side

        def drawn(*shape: int, seed: int) -> Tensor:
            return torch.cat([self.draw(1, *shape, seed=100 * seed + k, dtype=dtype) for k in range(kinds)])[rows]

        colour, opacity = drawn(side, side, 3, seed=1), 0.05 + 0.9 * drawn(side, side, seed=2)
        depth, normal = 2 + drawn(side, side, seed=3), drawn(side, side, 3, seed=4) - 0.5
        render = RenderOutput(
            colour.requires_grad_(),
            opacity.requires_grad_(),
            depth.requires_grad_(),
            F.normalize(normal, dim=-1).requires_grad_(),
            _samples(*(drawn(side * side * _SAMPLES, width, seed=seed) for width, seed in ((1, 5), (3, 6), (1, 12)))),
            extras={} if self.of in PICTURES else {self.of: drawn(side, side, 3, seed=7).requires_grad_()},
        )
        targets = {
            "colour": drawn(side, side, 3, seed=8),
            "mask": drawn(side, side, seed=9),
            "depth": 2 + drawn(side, side, seed=10),
            "normal": F.normalize(drawn(side, side, 3, seed=11) - 0.5, dim=-1),
            "index": rows.clone(),
        }
        cameras = self._cameras(rows, dtype)
        model = self._model()
        text = None if model is None else self._prompt(model, cameras)

        def ask(guidance: str) -> LossInputs:
            return inputs

        generator, geometry = self.generator(seed), self._scene(dtype)
        views = Views(cameras, targets)
        inputs = LossInputs(render, views, text, model, Progress(10, 100), generator, geometry, self.of, ask)
        return inputs

    @torch.no_grad()
    def _prompt(self, guidance: Guidance, cameras: CameraBatch) -> PromptBatch:
        positive, negative = self.prompt()
        asked = {wish: _read(guidance, wish.replace("{prompt}", positive), cameras) for wish in self.wishes()}
        return PromptBatch(_read(guidance, positive, cameras), _read(guidance, negative, cameras), texts=asked)

    def _cameras(self, rows: Tensor, dtype: torch.dtype) -> CameraBatch:
        """One of eight cameras around the scene for each view."""
        found = orbit(8, 15.0, 3.0, 40.0, self.side, self.side, self.device).select(rows % 8)
        return found.mapped(lambda tensor: tensor.to(dtype))


def _read(guidance: Guidance, words: str, cameras: CameraBatch) -> Conditioning:
    return replace(guidance.encode_text([words] * len(cameras)), cameras=cameras)


def _samples(weight: Tensor, normal: Tensor, gradient: Tensor) -> RaySamples:
    """`_SAMPLES` samples on each ray, that look along -z, of a signed distance whose gradients are 0.5 to 1.5 long."""
    count = weight.numel()
    ray = torch.arange(count // _SAMPLES, device=weight.device).repeat_interleave(_SAMPLES)
    distance = (2 + torch.linspace(0, 1, _SAMPLES, device=weight.device, dtype=weight.dtype)).repeat(count // _SAMPLES)
    direction = weight.new_tensor([0.0, 0.0, -1.0]).expand(count, 3)
    unit = F.normalize(normal.reshape(-1, 3) - 0.5, dim=-1)
    extras = {"gradient": (0.5 + gradient.reshape(-1, 1)).requires_grad_()}
    return RaySamples((weight.flatten() / _SAMPLES).requires_grad_(), ray, distance, direction, unit.requires_grad_(), extras)
