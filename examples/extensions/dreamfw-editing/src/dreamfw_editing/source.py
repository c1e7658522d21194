"""What is edited: the scene as it was when the run began, seen from the same cameras as the scene that changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from dfw import (
    Conditioning,
    ConfigError,
    Distillation,
    DistillationConfig,
    GuidedConfig,
    LossInputs,
    LossSetup,
    Progress,
    Query,
    Schedule,
    Weighting,
)


class EditConfig(GuidedConfig):
    """Timesteps, weight and guidance of an edit."""

    source_prompt: str = Field(min_length=1)
    """What the source scene shows, in the words of its own prompt; each view's words are added as to the run's prompt."""
    guidance_scale: Schedule = 7.5
    """s in eps_u + s (eps_c - eps_u), for source and target alike, diffusers' convention."""
    weighting: Weighting = "one"
    """w(t); the papers' code has none."""


class Source(Distillation):
    """Base of objectives that know the scene as it was: a frozen copy of what the run starts from.

    Start the run from a finished one (`start: {run: ...}`). The copy is part of the loss's state, so that a resumed run needs no
    source. Source and scene look alike only where nothing random is between them: write `shading: {mode: albedo}` and a `solid`
    background.
    """

    scene: nn.Module | None
    renderer: nn.Module | None

    def __init__(self, config: DistillationConfig) -> None:
        super().__init__(config)
        self.scene = self.renderer = None

    def bind(self, setup: LossSetup) -> None:
        """Keeps a copy of the scene and of its renderer. Raises ConfigError where the run has no scene yet."""
        super().bind(setup)
        if setup.geometry is None or setup.renderer is None:
            raise ConfigError("an edit needs the scene that it changes; start the run from a finished one: start: {run: RUN}")
        scene = copy.deepcopy(setup.geometry).requires_grad_(False).eval()
        scene.begin_step(Progress(99, 100), setup.generator)  # a geometry that goes from coarse to fine is shown whole
        self.scene = scene
        self.renderer = copy.deepcopy(setup.renderer).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """As torch's, for what is not the source: that is always looked at as it is."""
        super().train(mode)
        for module in (self.scene, self.renderer):
            if module is not None:
                module.eval()
        return self

    @torch.no_grad()
    def seen(self, inputs: LossInputs) -> LossInputs:
        """The same question about the source, seen from the step's cameras."""
        if self.scene is None or self.renderer is None:
            raise ConfigError("the loss has no source; call bind(setup) before its first step")
        return replace(inputs, render=self.renderer(self.scene, inputs.cameras))


class Edit(Source):
    """Base of objectives that compare what the prior wants of the scene with what it wanted of the source, by its own prompt."""

    Config = EditConfig
    config: EditConfig

    def view_texts(self) -> tuple[str, ...]:
        """The source's prompt."""
        return (self.config.source_prompt,)

    @torch.no_grad()
    def source(self, inputs: LossInputs) -> Tensor:
        """The source seen from the step's cameras, in the guidance's space (B, C, h, h)."""
        return self.seen(inputs).encoded

    def source_text(self, query: Query) -> Conditioning:
        """The source's prompt in each view's words."""
        return query.prompt.texts[self.config.source_prompt]

    def both(self, query: Query, source: Tensor) -> tuple[Tensor, Tensor]:
        """eps_hat of the scene for its prompt, and of the source (B, C, h, h) for its own: same timesteps, same noise."""
        scale, guidance = query.now(self.config.guidance_scale), query.guidance
        noisy = guidance.add_noise(source, query.noise, query.timestep)
        theirs = guidance.predict_noise_guided(noisy, query.timestep, self.source_text(query), query.prompt.negative, scale)
        return query.guided(scale), theirs
