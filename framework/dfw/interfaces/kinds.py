"""The four abstract interfaces: Geometry, Renderer, Guidance, Loss. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw.config.schedules import Progress
from dfw.errors import GuidanceError
from dfw.interfaces.checks import check_encoded, check_prediction
from dfw.interfaces.component import Component
from dfw.interfaces.data import CameraBatch, Conditioning, FieldSample, NoiseSchedule, PromptBatch, RenderOutput

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


class Geometry(Component, nn.Module, ABC):
    """What is optimised: the scene's parameters. Says in `provides` how it can be asked (`density-field`, `image` ...)."""

    kind: ClassVar[str] = "geometry"

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial parameters from `generator`. Called once, after construction and before the first step."""

    def begin_step(self, progress: Progress) -> None:
        """Called before each step, for what changes with time (coarse-to-fine encodings, annealed blobs)."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Name -> parameters; each group can have its own learning rate in `optimizer.groups`."""
        return {"geometry": list(self.parameters())}

    def export_assets(self, folder: Path) -> dict[str, Path]:
        """Writes what the scene is besides a mesh (a cloud of Gaussians, say) as files in `folder`, empty and there already.

        Returns asset name -> file; by default there are none. Called in evaluation mode, without gradients. The files are then
        moved to the export folder, under their own names or numbered ones, so that none replaces another.
        """
        return {}


class DensityField(Geometry):
    """A geometry that is a density and an albedo over space: feature `density-field`. Zero outside the cube |x|_inf <= radius."""

    @property
    @abstractmethod
    def radius(self) -> float:
        """Half-width of the scene's cube, world units."""

    @abstractmethod
    def density(self, points: Tensor) -> Tensor:
        """Density at `points` (..., 3), world units -> (...), 1/unit, >= 0."""

    @abstractmethod
    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        """Density, albedo and (when asked) unit normals -grad(density)/|grad(density)| at `points` (..., 3).

        Gradients reach the parameters through all outputs, also through the normals.
        """


class Renderer(Component, nn.Module, ABC):
    """Turns a geometry and cameras into images, differentiably."""

    kind: ClassVar[str] = "renderer"

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial parameters (a learned background, say) from `generator`."""

    def begin_step(self, geometry: Geometry, progress: Progress, generator: torch.Generator) -> None:
        """Called before each training step, for acceleration structures (an occupancy grid) and schedules of shading."""

    @abstractmethod
    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        """Renders B views of H x W.

        In training mode (`self.training`) draws (stratified offsets, lights, background colours) come from `generator`; in
        evaluation mode nothing is drawn and the light is the camera's.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Name -> parameters, as Geometry's."""
        parameters = list(self.parameters())
        return {"renderer": parameters} if parameters else {}


class Guidance(Component, nn.Module, ABC):
    """A frozen score model. It knows no distillation objective: a Loss asks it questions.

    Subclasses set `schedule`, `space`, `resolution`, `channels`, `latent_resolution`, `prediction_type` in `__init__`.
    """

    kind: ClassVar[str] = "guidance"

    schedule: NoiseSchedule
    space: Literal["pixel", "latent"]
    resolution: int  # pixels, the side of the images it was trained on
    channels: int  # C, of the space noise is added in
    latent_resolution: int  # h = w, of the space noise is added in; equals `resolution` for pixel models
    prediction_type: PredictionType = "epsilon"

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Embeds B texts. Raises PromptError for words the model cannot know."""

    @abstractmethod
    def encode_image(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], of side `resolution` -> (B, C, h, w) in the model's space, differentiable."""

    @abstractmethod
    def decode_image(self, encoded: Tensor) -> Tensor:
        """The inverse of `encode_image`, approximately: (B, C, h, w) -> (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's own output (B, C, h, w), as `prediction_type` says, for `noisy` at integer `timestep` (B,) in [0, T)."""

    def control_image(self, render: RenderOutput, cameras: CameraBatch) -> Tensor | None:
        """A picture (B, 3, H, W) in [0, 1] of the rendered shape, for models that are conditioned on one; None for all others.

        Asked once a step, without gradients; each `Conditioning` of the step's prompt then carries it as `control`. What it
        reads of the render (`depth`, `normals`) the guidance says in `requires`.
        """
        return None

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t = alpha_t z + sigma_t eps. DDPM (Ho et al. 2020), eq. 4."""
        alpha, sigma = self.schedule.at(timestep, clean)
        return alpha * clean + sigma * noise

    def predict_noise(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """eps(z_t; y, t) (B, C, h, w), whatever the network predicts."""
        output = self.predict(noisy, timestep, conditioning)
        check_prediction(self, noisy, output)
        return self.noise_of(output, noisy, timestep)

    def noise_of(self, output: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """eps (B, C, h, w) for a network's `output` at `noisy`, as `prediction_type` says.

        epsilon: as is. v (Salimans and Ho 2022): v = alpha eps - sigma z, so eps = alpha v + sigma z_t.
        x0: eps = (z_t - alpha x0)/sigma. flow (Liu et al. 2023): v = eps - x0, so eps = (z_t + alpha v)/(alpha + sigma).
        """
        if self.prediction_type == "epsilon":
            return output
        alpha, sigma = self.schedule.at(timestep, noisy)
        if self.prediction_type == "v_prediction":
            return alpha * output + sigma * noisy
        if self.prediction_type == "flow":
            return (noisy + alpha * output) / (alpha + sigma)
        return (noisy - alpha * output) / sigma

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What a perfect network would put out for `clean` (B, C, h, w) under `noise`: the diffusion objective compares with it.

        epsilon: eps. v (Salimans and Ho 2022): alpha eps - sigma z. x0: z. flow (Liu et al. 2023): eps - z.
        """
        alpha, sigma = self.schedule.at(timestep, clean)
        match self.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                return alpha * noise - sigma * clean
            case "sample":
                return clean
            case "flow":
                return noise - clean

    def adapter(self, rank: int, generator: torch.Generator) -> Adapter:
        """A new trainable predictor on top of the model: feature `adapter`. It starts as the model itself, for any camera.

        rank: of its low-rank weights, >= 1. Initial weights come from `generator`. Neither its presence nor its training
        changes a bit of the model's own predictions. Raises GuidanceError where the feature is not provided.
        """
        raise GuidanceError(f"{type(self).__name__} has no adapter; choose a guidance that provides 'adapter'")

    def predict_noise_guided(
        self, noisy: Tensor, timestep: Tensor, conditional: Conditioning, unconditional: Conditioning, guidance_scale: float
    ) -> Tensor:
        """eps_u + s (eps_c - eps_u), both in one batch, unconditional first.

        Classifier-free guidance (Ho and Salimans 2022) in diffusers' convention, s = 1 + omega.
        One network call of B images for s = 0 or 1, of 2 B otherwise.
        """
        if guidance_scale == 1:
            return self.predict_noise(noisy, timestep, conditional)
        if guidance_scale == 0:
            return self.predict_noise(noisy, timestep, unconditional)
        both = Conditioning.cat([unconditional, conditional])
        without, with_prompt = self.predict_noise(noisy.repeat(2, 1, 1, 1), timestep.repeat(2), both).chunk(2)
        return without + guidance_scale * (with_prompt - without)

    def predict_clean(self, noisy: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """x0 = (z_t - sigma_t eps)/alpha_t, the denoised estimate for a predicted `noise`."""
        alpha, sigma = self.schedule.at(timestep, noisy)
        return (noisy - sigma * noise) / alpha

    def mean_residual(self, clean: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor | None:
        """E over eps of eps_hat(z_t; y, t) - eps for `clean` z (B, C, h, w), in closed form; None where there is none."""
        return None


class Adapter(nn.Module, ABC):
    """A trainable noise predictor on top of a frozen guidance, whose weights it shares and does not own.

    Its parameters and its `state_dict` are what was added and nothing else.
    """

    @abstractmethod
    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """As `Guidance.predict`, for `noisy` (B, C, h, w) at `timestep` (B,), with gradients to the added parameters.

        Conditioned on `conditioning.cameras` too, where they are not None.
        """


@dataclass(frozen=True)
class LossInputs:
    """All that a loss may look at in one step.

    `generator` is the noise stream; `guidance` and `prompt` are None in a run without guidance.
    """

    render: RenderOutput
    cameras: CameraBatch
    prompt: PromptBatch | None
    guidance: Guidance | None
    progress: Progress
    generator: torch.Generator

    @cached_property
    def image(self) -> Tensor:
        """The render resized (bilinear, antialiased when shrinking) for the guidance: (B, 3, H, W), or latents (B, C, h, w)."""
        if self.guidance is None:
            raise ValueError("this loss asks for the encoded render, and the run has no guidance")
        image = self.render.colour.permute(0, 3, 1, 2)
        side = self.guidance.latent_resolution if self.render.latent else self.guidance.resolution
        if image.shape[-2:] == (side, side):
            return image
        shrink = image.shape[-1] > side
        return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=shrink)

    @cached_property
    def encoded(self) -> Tensor:
        """The render in the guidance's space (B, C, h, w), with gradients; encoded once however many losses ask."""
        if self.render.latent or self.guidance is None:
            return self.image
        encoded = self.guidance.encode_image(self.image)
        check_encoded(self.guidance, self.image, encoded)
        return encoded


class Loss(Component, nn.Module, ABC):
    """An objective: one scalar per step. Its weight and schedule belong to the configuration, not to the loss."""

    kind: ClassVar[str] = "loss"

    @abstractmethod
    def forward(self, inputs: LossInputs) -> Tensor:
        """The unweighted loss, a scalar with gradients to the render."""

    def bind(self, guidance: Guidance | None, generator: torch.Generator) -> None:
        """Called once before the first step, on the run's device, for what a loss builds on the guidance (an adapter, say).

        Initial values come from `generator`. A checkpoint is restored after this, into the modules that it made.
        """

    def end_step(self, inputs: LossInputs) -> None:
        """Called after the scene has made its step, in steps whose weight was not 0: where a loss trains a model of its own.

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

        `{prompt}` in one stands for the run's, in each view's words; others are the same for every view, "" is no prompt at all.
        """
        return ()


def parameters_of(groups: dict[str, list[nn.Parameter]]) -> Iterator[nn.Parameter]:
    """All parameters of all groups, in order."""
    for group in groups.values():
        yield from group
