"""How good a picture is. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw.config.schedules import Progress
from dfw.errors import ConfigError
from dfw.interfaces.checks import check_encoded, check_latents
from dfw.interfaces.component import Component
from dfw.interfaces.data import LATENTS, CameraBatch, PromptBatch, RenderOutput, Views
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.renderer import Renderer


@dataclass(frozen=True)
class LossInputs:
    """All that a loss may look at in one step."""

    render: RenderOutput
    """The render of the loss's `views`."""
    views: Views
    """Their cameras, and the targets of posed pictures."""
    prompt: PromptBatch | None
    """The prompt as the loss's guidance reads it; None in a run without guidance."""
    guidance: Guidance | None
    """The guidance that the loss names; None in a run without guidance."""
    progress: Progress
    """Where the run is."""
    generator: torch.Generator
    """The stream of noise: all draws of the loss come from it."""
    geometry: Geometry | None = None
    """The scene itself, for regularisers of its parameters."""
    of: str = "colour"
    """Which picture of the render it looks at: `RenderOutput.picture`."""
    ask: Callable[[str], LossInputs] | None = None
    """For `asking`; the core sets it."""

    @property
    def cameras(self) -> CameraBatch:
        """The cameras of the views."""
        return self.views.cameras

    @cached_property
    def picture(self) -> Tensor:
        """What the loss looks at, (B, H, W, 3) in [0, 1], or (B, H, W, C) latents."""
        return self.render.picture(self.of, self.cameras)

    @cached_property
    def image(self) -> Tensor:
        """The picture for the guidance: (B, 3, H, W) of side `resolution`, or latents (B, C, h, w).

        Resized bilinearly, antialiased when it shrinks. Of a picture that is not square the guidance sees the centred square.
        """
        if self.guidance is None:
            raise ValueError("this loss asks for the encoded render, and the run has no guidance")
        image = self.picture.permute(0, 3, 1, 2)
        side = self.guidance.latent_resolution if self.latent else self.guidance.resolution
        height, width = image.shape[-2:]
        if height != width:
            square = min(height, width)
            top, left = (height - square) // 2, (width - square) // 2
            image = image[..., top : top + square, left : left + square]
        if image.shape[-1] == side:
            return image
        shrink = image.shape[-1] > side
        return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=shrink)

    @cached_property
    def encoded(self) -> Tensor:
        """The picture in the guidance's space (B, C, h, w), with gradients; encoded once however many losses ask."""
        if self.guidance is None:
            return self.image
        if self.latent:
            if self.of != "normal-mask":  # the trainer has looked at those before the first step
                check_latents(self.guidance, self.image)
            return self.image
        encoded = self.guidance.encode_image(self.image)
        check_encoded(self.guidance, self.image, encoded)
        return encoded

    @property
    def latent(self) -> bool:
        """Whether the picture is in the guidance's latent space, so that no guidance encodes it."""
        return self.of in (LATENTS, "normal-mask") or (self.render.latent and self.of == "colour")

    def asking(self, guidance: str) -> LossInputs:
        """The same views as another guidance of the run, by its name in `guidances`, sees them. Raises ConfigError.

        An option of the loss must hold the name, since a guidance that no loss names is not loaded. The prompt holds the run's
        prompt, and the texts only of losses that name that guidance.
        """
        if self.ask is None:
            raise ConfigError(f"this run has no guidance named {guidance!r}")
        return self.ask(guidance)


@dataclass(frozen=True)
class LossSetup:
    """What a loss may build on before the first step: everything is on the run's device."""

    guidance: Guidance | None
    """The guidance that the loss names."""
    geometry: Geometry | None
    """The scene, initialised and started from another where the run says so. Copy it to keep it as it was."""
    renderer: Renderer | None
    """The run's renderer."""
    generator: torch.Generator
    """The stream of initial values."""
    resumed: bool = False
    """Whether a checkpoint is restored next. Then read no file, which may be gone: keep what you made of it in buffers."""


class Loss(Component, nn.Module, ABC):
    """An objective: one scalar per step. Its weight, and what it looks at, belong to the configuration, not to the loss."""

    kind: ClassVar[str] = "loss"

    @abstractmethod
    def forward(self, inputs: LossInputs) -> Tensor:
        """The unweighted loss, a scalar with gradients to the render or to the geometry's parameters."""

    def bind(self, setup: LossSetup) -> None:
        """Called once before the first step, for what a loss builds: an adapter of the guidance, a copy of the scene.

        A checkpoint is restored after this, into the modules that it made.
        """

    def end_step(self, inputs: LossInputs) -> None:
        """Called after the optimiser step, if this loss took part. Train the loss's own model here.

        `inputs` are those of `forward`, the render as it was; draws come from `inputs.generator`.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters of the loss's own that the run's optimiser steps, if any."""
        return {}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers that the loss steps itself, in `end_step`; checkpoints hold their state under these names."""
        return {}

    def texts(self) -> tuple[str, ...]:
        """Texts it asks about, encoded before the first step: `inputs.prompt.texts` holds them under what is returned here.

        `{prompt}` in one stands for the run's prompt, in each view's words. Texts without it are shared by all views; the empty
        string means no condition.
        """
        return ()

    def view_texts(self) -> tuple[str, ...]:
        """As `texts`, but each is written for each view as the prompt is: a source prompt of an edit, say."""
        return ()


def parameters_of(groups: dict[str, list[nn.Parameter]]) -> Iterator[nn.Parameter]:
    """All parameters of all groups, in order."""
    for group in groups.values():
        yield from group
