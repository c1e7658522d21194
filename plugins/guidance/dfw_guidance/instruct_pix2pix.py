"""InstructPix2Pix: a Stable Diffusion that sees the picture it changes, and reads what to change.

Legend: B images of H x W pixels; C = 4 channels of side h of the latent space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from dfw import Conditioning, LocalPath, over, read_picture
from dfw_guidance.clip_vision import squared
from dfw_guidance.files import Files
from dfw_guidance.precision import dtype_of
from dfw_guidance.stable_diffusion import StableDiffusion


class InstructPix2Pix(StableDiffusion):
    """A model of edited pictures (Brooks et al. 2023): the noise in the result, given the source picture and an instruction.

    The U-Net reads the noisy latents with the source's next to them. The source is `Conditioning.control`, as an edit's loss
    gives it, or else `image`. Without either its latents are 0. The source has a guidance scale s_I of its own: to each answer
    e(y, I) is added (s_I - 1) (e("", I) - e("", 0)). With the loss's scale s_T and no negative prompt this makes the paper's
    equation 3, e("", 0) + s_I (e("", I) - e("", 0)) + s_T (e(y, I) - e("", I)).
    """

    class Config(StableDiffusion.Config):
        """Which model, and how much the source picture counts."""

        family: ClassVar[str] = "instruct-pix2pix"

        model: str = "instruct-pix2pix"
        """`instruct-pix2pix`, a hub id, or a folder in diffusers' layout."""
        image: LocalPath | None = None
        """A source picture for all views, square; none: each view's own, from the loss, or no source at all."""
        image_guidance_scale: NonNegativeFloat = 1.5
        """s_I: how near the result stays to the source; 1 is no guidance by the source. The authors use 1.2 to 2."""
        autoencoder: None = None
        """None: the model reads the source's latents as its own VAE makes them."""

        def check_files(self) -> None:
            """Reads the source picture."""
            if self.image is not None:
                read_picture(Path(self.image), "image")

    pipeline = "StableDiffusionInstructPix2PixPipeline"
    one_file = False
    beside = 1
    config: InstructPix2Pix.Config
    source: Tensor | None

    def _open(self) -> Files:
        image = self.config.image
        self._picture = None if image is None else read_picture(Path(image), "image")  # before anything is downloaded
        return super()._open()

    def _load(self, files: Files) -> None:
        super()._load(files)
        shown, source = self._picture, None
        if shown is not None:
            source = self._latents(squared(over(shown, shown[..., 3], (1, 1, 1)), self.resolution))
        self.register_buffer("source", source, persistent=False)

    @torch.no_grad()
    def _latents(self, picture: Tensor) -> Tensor:
        """Returns the source's latents (B, C, h, h), which are not scaled, of pictures (B, 3, H, W) in [0, 1]."""
        side = (self.resolution, self.resolution)
        if picture.shape[2:] != side:
            picture = F.interpolate(picture, side, mode="bilinear", align_corners=False, antialias=picture.shape[3] > side[1])
        with self._own_precision():
            latents: Tensor = self.vae.encode((2 * picture - 1).to(dtype_of(self.vae))).latent_dist.mode()
        return latents.float()

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the network's answer (B, C, h, h) in `noisy`'s dtype, with the guidance by the source in it."""
        return self._answers(noisy, timestep, [conditioning])[0]

    def predict_noise_guided(
        self, noisy: Tensor, timestep: Tensor, conditional: Conditioning, unconditional: Conditioning, guidance_scale: float
    ) -> Tensor:
        """As `Guidance`, with one guidance by the source for both answers: four images for each, in one network call."""
        asked = {0.0: [unconditional], 1.0: [conditional]}.get(guidance_scale, [unconditional, conditional])
        noise = [self.noise_of(answer, noisy, timestep) for answer in self._answers(noisy, timestep, asked)]
        return noise[0] if len(noise) == 1 else noise[0] + guidance_scale * (noise[1] - noise[0])

    def _answers(self, noisy: Tensor, timestep: Tensor, asked: Sequence[Conditioning]) -> list[Tensor]:
        """Returns an answer for each of `asked`, which have the same source."""
        source, weight = self.source, self.config.image_guidance_scale - 1
        if asked[0].control is not None:
            source = self._latents(asked[0].control)
        beside = torch.zeros_like(noisy) if source is None else source.to(noisy).expand_as(noisy)
        texts, sources = [one.embedding for one in asked], [beside] * len(asked)
        if source is not None and weight != 0:
            nothing = self.encode_text([""]).embedding.expand_as(texts[0])
            texts, sources = [*texts, nothing, nothing], [*sources, beside, torch.zeros_like(beside)]
        count = len(texts)
        shown = torch.cat([noisy.repeat(count, 1, 1, 1), torch.cat(sources)], 1)
        answers = list(self._ask(shown, timestep.repeat(count), torch.cat(texts)).chunk(count))
        if count == len(asked):
            return answers
        return [one + weight * (answers[-2] - answers[-1]) for one in answers[: len(asked)]]
