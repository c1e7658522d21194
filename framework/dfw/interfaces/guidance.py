"""A frozen score model, and what can be trained on top of it. Shapes and conventions are those of `dfw.interfaces.data`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dfw.errors import GuidanceError
from dfw.interfaces.checks import check_prediction, check_untouched, version_of
from dfw.interfaces.component import Component, name_of
from dfw.interfaces.data import CameraBatch, Conditioning, NoiseSchedule, RenderOutput
from dfw.interfaces.predictions import PREDICTIONS


class Guidance(Component, nn.Module, ABC):
    """A frozen score model. It knows no distillation objective: a Loss asks it questions.

    Subclasses set `schedule`, `space`, `resolution`, `channels`, `latent_resolution`, `prediction_type` in `__init__`.
    """

    kind: ClassVar[str] = "guidance"

    schedule: NoiseSchedule
    """The forward process; the core moves it to the run's device."""
    space: Literal["pixel", "latent"]
    """Where noise is added."""
    resolution: int
    """Pixels, the side of the images it was trained on."""
    channels: int
    """C, of the space noise is added in."""
    latent_resolution: int
    """h = w, of the space noise is added in; equals `resolution` for pixel models."""
    prediction_type: str = "epsilon"
    """What the network puts out: `epsilon`, `v_prediction`, `sample` or `flow` (`dfw.interfaces.predictions`)."""

    @classmethod
    def sees(cls, config: Any) -> int:
        """How many consecutive views of a batch the network sees as one scene; 1 for models of single pictures.

        Such a model finds their cameras in `Conditioning.cameras`, and B is a multiple of this number. A run whose cameras give
        views of another `together` is refused when it is composed.
        """
        return 1

    @classmethod
    def side(cls, config: Any) -> int | None:
        """Returns `resolution` where it is known before the model is loaded; None elsewhere. A dry run warns of wider views."""
        return None

    @classmethod
    def check_prompt(cls, config: Any, text: str, negative: bool = False) -> Sequence[str]:
        """Looks at a run's prompt, or its `negative` one, before the model loads; returns remarks, which the run warns of.

        Raises PromptError for a text that the model cannot read. It must not need the weights.
        """
        return ()

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Embeds B texts, for a model that provides `text`; "" must give what `unconditional` gives.

        Raises PromptError for words the model cannot know.
        """
        raise GuidanceError(f"{name_of(self)} reads no text")

    def encode_negative(self, text: str) -> Conditioning:
        """Returns what classifier-free guidance moves away from, one row, for a model that provides `text`: the negative prompt.

        A model that is conditioned on more than a text, on a picture say, leaves the rest out here.
        """
        return self.encode_text([text])

    def conditional(self) -> Conditioning:
        """What a model without `text` is conditioned on besides cameras (a picture, say): one row, repeated for every view."""
        raise GuidanceError(f"{name_of(self)} provides no 'text' and does not say what it is conditioned on; write conditional()")

    def unconditional(self) -> Conditioning:
        """No condition at all, one row: by default the empty text."""
        return self.encode_text([""])

    @abstractmethod
    def encode_image(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], of side `resolution` -> (B, C, h, w) in the model's space, differentiable."""

    @abstractmethod
    def decode_image(self, encoded: Tensor) -> Tensor:
        """The inverse of `encode_image`, approximately: (B, C, h, w) -> (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's own output (B, C, h, w), as `prediction_type` says, for `noisy` at integer `timestep` (B,) in [0, T).

        A row depends on its own inputs alone, or on those of its scene where the network `sees` several views: a run on several
        devices asks each of them for some of the rows. The same holds for `encode_image` and `decode_image`.
        """

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
        version = version_of(noisy)
        output = self.predict(noisy, timestep, conditioning)
        check_prediction(self, noisy, output)
        check_untouched(self, "the noisy images", noisy, version)
        return self.noise_of(output, noisy, timestep)

    def noise_of(self, output: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """eps (B, C, h, w) for a network's `output` at `noisy`, as `prediction_type` says."""
        return PREDICTIONS[self.prediction_type].noise(output, noisy, *self.schedule.at(timestep, noisy))

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What a perfect network puts out for `clean` (B, C, h, w) under `noise`: the diffusion objective compares with it."""
        return PREDICTIONS[self.prediction_type].output(clean, noise, *self.schedule.at(timestep, clean))

    def renew(self) -> bool:
        """Forgets what a run has asked, so that the next run of the process need not load the model again.

        Returns whether every answer now has the bits that a newly constructed guidance gives. By default False: the next run
        constructs its own. Never called after a run whose loss has trained an `adapter`.
        """
        return False

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
