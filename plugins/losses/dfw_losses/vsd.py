"""Variational score distillation: the prior against a copy of itself that has learned what the renders look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from dfw import (
    Adapter,
    Conditioning,
    ConfigError,
    Distillation,
    DistillationConfig,
    GuidedConfig,
    LossInputs,
    LossSetup,
    PromptBatch,
    Query,
    Schedule,
    sample_timesteps,
)


class VSD(Distillation):
    """d loss / d z = w(t) [eps_hat(z_t; y, t) - eps_phi(z_t; y, t, camera)], phi a predictor trained on the renders.

    phi is the guidance's adapter (low-rank weights and a camera embedding on the model itself). After each step of the scene it
    makes one of the diffusion objective, E |prediction - target|^2 in the model's own parametrisation, on the same renders,
    detached, with t over the whole schedule and new noise. Neither's gradient reaches the other. Three network calls.
    ProlificDreamer (Wang et al. 2023), eq. 9 and algorithm 1.
    camera_free = lambda above 0 makes it entropic score distillation (ESD, Wang et al. 2024, Taming Mode Collapse):
    (1 - lambda) eps_phi(z_t; y, t, camera) + lambda eps_phi(z_t; t) takes the place of eps_phi. One network call asks for both.
    The second one reads a pose of zeros and the empty text, since the prompt's view words would give the camera away.
    """

    class Config(GuidedConfig):
        """Timesteps, weight and guidance, and how the adapter is trained."""

        guidance_scale: Schedule = 7.5
        """s in eps_u + s (eps_c - eps_u) of the frozen model, diffusers' convention. The adapter is asked without guidance."""
        adapter_lr: PositiveFloat = 1e-4
        """Learning rate of the adapter's own optimiser, AdamW with torch's defaults."""
        rank: PositiveInt = 4
        """Rank of the adapter's low-rank weights."""
        camera_dropout: float = Field(default=0.1, ge=0, le=1)
        """Share of the views whose camera the adapter is trained without: it sees a pose of zeros."""
        camera_free: float = Field(default=0, ge=0, le=1)
        """lambda of ESD: share of the prediction without camera and text. Above 0, the adapter is trained on the views that
        `camera_dropout` chooses without their text, too. 0 is VSD; 0.5 is the example of ESD's authors."""

        @model_validator(mode="after")
        def _trained(self) -> VSD.Config:
            if self.camera_free and not self.camera_dropout:
                raise ValueError("camera_free asks for what camera_dropout: 0 never trains; write e.g. camera_dropout: 0.5")
            return self

    config: VSD.Config
    adapter: Adapter | None
    optimizer: torch.optim.Optimizer | None

    @classmethod
    def requires(cls, config: DistillationConfig) -> frozenset[str]:
        """A noise predictor that can be adapted."""
        return frozenset({"noise-prediction", "adapter"})

    def __init__(self, config: VSD.Config) -> None:
        super().__init__(config)
        self.adapter = self.optimizer = None

    def bind(self, setup: LossSetup) -> None:
        """Makes the adapter, its initial weights from the setup's generator, and its optimiser."""
        super().bind(setup)
        if setup.guidance is None:
            return  # `query` says what is missing
        self.adapter = setup.guidance.adapter(self.config.rank, setup.generator)
        self.optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=self.config.adapter_lr)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The adapter's, as `adapter`."""
        return {} if self.optimizer is None else {"adapter": self.optimizer}

    def texts(self) -> tuple[str, ...]:
        """No condition at all, for ESD."""
        return ("",) if self.config.camera_free else ()

    def direction(self, query: Query) -> Tensor:
        """eps_hat - eps_phi, at the same z_t."""
        return query.guided(query.now(self.config.guidance_scale)) - self._learned(query)

    def _learned(self, query: Query) -> Tensor:
        """eps_phi, both of ESD's predictions in one call."""
        adapter, share, seen = self._bound()[0], self.config.camera_free, query.prompt.positive
        if share == 0:
            return query.guidance.noise_of(adapter(query.noisy, query.timestep, seen), query.noisy, query.timestep)
        noisy, timestep = query.noisy.repeat(2, 1, 1, 1), query.timestep.repeat(2)
        output = adapter(noisy, timestep, Conditioning.cat([seen, self._free(query.prompt)]))
        with_camera, without = query.guidance.noise_of(output, noisy, timestep).chunk(2)
        return torch.lerp(with_camera, without, share)

    def end_step(self, inputs: LossInputs) -> None:
        """One step of the adapter on the renders; draws t, the noise, then which cameras are dropped."""
        adapter, optimizer = self._bound()
        prompt = inputs.prompt
        assert prompt is not None  # forward has refused a run without
        positive, free = prompt.positive, self._free(prompt)

        def seen() -> Conditioning:
            return drop_cameras(positive, free, self.config.camera_dropout, inputs.generator)

        self.log("adapter", learn(adapter, optimizer, inputs.encoded.detach(), seen, inputs))

    def _free(self, prompt: PromptBatch) -> Conditioning:
        """What the adapter reads where it must not know the camera."""
        text = prompt.texts[""] if self.config.camera_free else prompt.positive
        if text.cameras is None:
            return text
        return replace(text, cameras=replace(text.cameras, camera_to_world=torch.zeros_like(text.cameras.camera_to_world)))

    def _bound(self) -> tuple[Adapter, torch.optim.Optimizer]:
        if self.adapter is None or self.optimizer is None:
            raise ConfigError("the loss 'vsd' has no adapter; call bind(setup) before its first step")
        return self.adapter, self.optimizer


def learn(
    adapter: Adapter, optimizer: torch.optim.Optimizer, clean: Tensor, seen: Callable[[], Conditioning], inputs: LossInputs
) -> Tensor:
    """One step of the diffusion objective on encoded views `clean` (B, C, h, h). Returns the error, a scalar.

    It draws t over the whole schedule, then the noise, then what `seen` draws: what the adapter reads next to each view.
    """
    guidance, generator = inputs.guidance, inputs.generator
    assert guidance is not None  # forward has refused a run without
    together = inputs.cameras.together  # views that a model sees at once share their timestep
    timestep = sample_timesteps(len(clean) // together, 0, len(guidance.schedule) - 1, generator, clean.device)
    timestep = timestep.repeat_interleave(together)
    noise = torch.randn(clean.shape, generator=generator, device=generator.device, dtype=clean.dtype).to(clean.device)
    output = adapter(guidance.add_noise(clean, noise, timestep), timestep, seen())
    error: Tensor = (output - guidance.target(clean, noise, timestep)).square().sum() / len(clean)
    optimizer.zero_grad()
    error.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return error


def drop_cameras(seen: Conditioning, free: Conditioning, share: float, generator: torch.Generator) -> Conditioning:
    """`seen`, of B, with a random `share` of its views replaced by those of `free`.

    It draws one number a view, and none where `free` is `seen` itself: there is no camera to drop.
    """
    if free is seen:
        return seen
    draw = torch.rand(len(seen), generator=generator, device=generator.device).to(seen.embedding.device)
    view = torch.arange(len(seen), device=draw.device)
    return Conditioning.cat([seen, free]).select(torch.where(draw >= share, view, view + len(seen)))
