"""Rectified flow models (Stable Diffusion 3, Flux) as frozen score models: converts their velocity to a noise prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from dfw import Conditioning, GuidanceError, Model, NoiseSchedule
from dfw_guidance.aliases import FAMILIES
from dfw_guidance.files import Files
from dfw_guidance.flow_networks import FlowNetwork, FluxNetwork, SD3Network
from dfw_guidance.hub import find_model
from dfw_guidance.known import models_of
from dfw_guidance.latent import Latent
from dfw_guidance.layouts import INDEX, Layout, read_index
from dfw_guidance.t5 import T5Config, TransientT5, exists

NETWORKS: dict[str, type[FlowNetwork]] = {"StableDiffusion3Pipeline": SD3Network, "FluxPipeline": FluxNetwork}
"""Pipeline named in a model's `model_index.json` -> the class that reads its transformer and its texts."""


class Flow(Latent):
    """A latent rectified flow (Liu et al. 2023; Esser et al. 2024): z_t = (1 - s) z + s eps; the network predicts v = eps - z.

    Every objective needs the noise eps = z_t + (1 - s) v. Timestep t of T = 1,000 stands for the noise level
    s = shift((t + 1)/T), with the shift of the model's own sampler. The last level is shift((T - 1/2)/T), because at s = 1 a
    noise prediction says nothing about the picture. T5, the largest text encoder, is in memory only while it reads new texts.
    """

    class Config(T5Config):
        """Which model, how it is held in memory, and at what size it works."""

        family: ClassVar[str] = "flow"

        model: str = "sd3-medium"
        """`sd3-medium`, `sd35-medium`, `flux-schnell`, `flux-dev`, a hub id, or a folder in diffusers' layout."""
        resolution: PositiveInt | None = None
        """Side of the images that the model sees, pixels; by default 1024, its training size. Smaller is faster and less sure."""
        t5: bool = True
        """Stable Diffusion 3: whether the third and largest text encoder reads the prompt. If false, zeros replace its output."""
        embedded_guidance: NonNegativeFloat = 3.5
        """Flux-dev: the guidance scale that its distilled network takes as an input. The loss's guidance_scale is separate."""

    half_dtype = torch.bfloat16
    prediction_type = "flow"
    config: Flow.Config

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the models that have short names."""
        third = [name for name in FAMILIES["flow"] if name.startswith("sd3")]
        flux = [name for name in FAMILIES["flow"] if name not in third]
        return (*models_of("flow", SD3Network.layout, *third), *models_of("flow", FluxNetwork.layout, *flux))

    def _find(self) -> Path:
        index = read_index(self._folder(INDEX))
        pipeline = index.get("_class_name", "unknown (it has no model_index.json)")
        if pipeline not in NETWORKS:
            raise GuidanceError(
                f"guidance.model: the pipeline of {self.config.model!r} is {pipeline}; flow reads {' and '.join(NETWORKS)}"
            )
        self.reader, self.pipeline = NETWORKS[pipeline], pipeline
        self.layout = self.reader.layout
        needed = self.config.t5 and not exists(self.config.embeddings)
        return self._folder(self.reader.layout if needed else self.reader.layout.without(*self.reader.t5_parts))

    def _folder(self, layout: Layout) -> Path:
        config = self.config
        return find_model(config.model, layout, config.revision, config.variant, config.family)

    def _load(self, files: Files) -> None:
        self.network = self.reader(files, self.config.embedded_guidance)
        for name, part in self.network.parts.items():
            self.add_module(name, part)
        channels, side, patch = self.network.channels, self.network.side, self.network.patch
        self._load_vae(files, channels, side, self.config.resolution, patch)
        self.schedule = flow_schedule(files.scheduler(), (self.latent_resolution // patch) ** 2)
        self.t5 = self._t5() if self.config.t5 and not self.network.lacks_t5(files) else None

    def _t5(self) -> TransientT5:
        encoder, tokenizer = self.reader.t5_parts

        def files() -> Files:
            return Files(self._folder(self.reader.layout.only(encoder, tokenizer)), self.config.variant)

        length, width = self.reader.text_length, self.network.text_width
        return TransientT5(files, encoder, tokenizer, length, width, False, self.config.embeddings)

    def _embed(self, texts: Sequence[str]) -> Conditioning:
        shape = (len(texts), self.reader.text_length, self.network.text_width)
        states = torch.zeros(shape, device=self.device) if self.t5 is None else self.t5(texts, self.device, self.dtype)
        return self.network.embed(texts, states)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the transformer's velocity (B, C, h, w) in `noisy`'s dtype. Needs `conditioning.pooled`."""
        level = self.schedule.sigma[timestep.to(self.schedule.sigma.device)].to(noisy.device)
        if conditioning.pooled is None:
            raise GuidanceError("guidance: flow models also read a pooled text embedding; take both embeddings from encode_text")
        with self._own_precision():
            velocity = self.network.velocity(noisy, level, conditioning.embedding, conditioning.pooled)
        return velocity.to(noisy.dtype)


def flow_schedule(settings: dict[str, Any], tokens: int) -> NoiseSchedule:
    """Returns the rising noise levels s_t (T,) of diffusers' flow-matching scheduler for a picture of `tokens` tokens.

    shift(s) = k s/(1 + (k - 1) s), where k is fixed, or k = exp(mu) with mu linear in the tokens. Esser et al. 2024, section
    5.3.2. Raises ValueError if the scheduler is of another kind.
    """
    if not str(settings.get("_class_name", "")).startswith("FlowMatch"):
        raise ValueError(f"its scheduler {settings.get('_class_name')} is not a flow-matching scheduler")
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(settings)  # type: ignore[no-untyped-call]
    config = scheduler.config
    count = int(config.num_train_timesteps)
    levels = np.arange(1, count + 1) / count
    levels[-1] -= 0.5 / count
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
    scheduler.set_timesteps(sigmas=levels[::-1].tolist(), mu=mu if config.use_dynamic_shifting else None)
    return NoiseSchedule.from_flow(scheduler.sigmas[:-1].flip(0))
