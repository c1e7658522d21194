"""A score model made of pictures: what a scene looks like from each side, as the exact score of a Gaussian mixture.

Legend: B images, N target views, C = 3 channels of side h, D = 3 h^2.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, Conditioning, Guidance, LocalPath, NoiseSchedule

from .targets import read_targets

REACH = 3.0
"""Multiples of `spread` beyond which a view is not what a camera sees."""

Channel = Annotated[float, Field(ge=0, le=1)]


class Views(Guidance):
    """The ideal noise predictor for p(z | camera) = sum_i w_i(camera) N(z; y_i, s^2 I), y_i the target views.

    The weights fall with the angle between the camera and the view's own, w_i ~ exp(cos(angle_i) / spread^2): the density of von
    Mises and Fisher on the sphere (Fisher 1953), for small angles a normal one of standard deviation `spread`. Beyond three of
    them the weight is 0, except for the nearest view: however little a picture of the front weighs from behind, a scene that
    shows its front there is so near to it, in 3 h^2 dimensions, that it would win, and the scene would be all fronts. It reads no
    text. Without its condition all views are equally likely from everywhere, which is what classifier-free guidance moves away
    from. Pixels, with colours from [0, 1] spread to [-1, 1]. Diffuses as DDPM (Ho et al. 2020): 1,000 steps, variances from 1e-4
    to 0.02.
    """

    class Config(ComponentConfig):
        """Which pictures, and how far each of them speaks."""

        folder: LocalPath
        """Folder with the pictures and `cameras.json` (azimuth and elevation of each) or NeRF's `transforms.json`."""
        spread: PositiveFloat = 5.0
        """Degrees from a camera at which a view's weight has fallen to exp(-1/2); half the distance between views is good."""
        std: PositiveFloat = 0.1
        """s: standard deviation of each pixel around its view, in units where black is -1 and white is 1."""
        resolution: PositiveInt = 64
        """Side of the images as they are compared, pixels."""
        background: tuple[Channel, Channel, Channel] = (1.0, 1.0, 1.0)
        """[r, g, b] in [0, 1], put behind transparent pixels; give the renderer the same."""

        def check_files(self) -> None:
            """Reads the pictures and their cameras."""
            read_targets(self.folder, 1, self.background)

    config: Views.Config

    @classmethod
    def provides(cls, config: Views.Config) -> frozenset[str]:
        """It predicts noise; it reads no text."""
        return frozenset({"noise-prediction"})

    def __init__(self, config: Views.Config) -> None:
        super().__init__()
        self.config = config
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "pixel"
        self.resolution = self.latent_resolution = config.resolution
        self.channels = 3
        targets = read_targets(config.folder, config.resolution, config.background)
        self.views: Tensor
        self.directions: Tensor
        self.register_buffer("views", 2 * targets.images - 1, persistent=False)
        self.register_buffer("directions", targets.directions, persistent=False)

    def conditional(self) -> Conditioning:
        """(1, 1, 1): 1, the view of the camera."""
        return Conditioning(self.views.new_ones(1, 1, 1))

    def unconditional(self) -> Conditioning:
        """(1, 1, 1): 0, the views of all cameras at once."""
        return Conditioning(self.views.new_zeros(1, 1, 1))

    def encode_image(self, image: Tensor) -> Tensor:
        """Images (B, 3, h, h) in [0, 1] -> the same in [-1, 1]."""
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Images (B, 3, h, h) in [-1, 1] -> the same in [0, 1], clipped."""
        return (encoded / 2 + 0.5).clamp(0, 1)

    def log_weights(self, conditioning: Conditioning) -> Tensor:
        """log w_i up to a constant, (B, N): (cos(angle_i) - 1) / spread^2, or -inf; 0 unconditionally and without cameras."""
        if conditioning.cameras is None:
            return self.directions.new_zeros(len(conditioning), len(self.directions))
        towards_B3 = _direction(conditioning.cameras).to(self.directions)
        cosine_BN = towards_B3 @ self.directions.T
        read_B1 = conditioning.embedding[:, 0].to(cosine_BN)
        spread = math.radians(self.config.spread)
        least_B1 = cosine_BN.amax(1, keepdim=True).clamp_max(math.cos(min(REACH * spread, math.pi)))
        out_of_reach = (cosine_BN < least_B1) & (read_B1 > 0)
        return (read_B1 * (cosine_BN - 1) / spread**2).masked_fill(out_of_reach, -math.inf)

    def posterior(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """p(i | z_t, camera), (B, N): which view the noisy image shows. Bayes' rule with likelihoods N(z_t; alpha_t y_i, v I).

        v = alpha_t^2 s^2 + sigma_t^2. The square |z_t - alpha_t y_i|^2 is expanded around the mean view, so that what all views
        share, the background above all, costs no digits.
        """
        alpha, sigma = (part.flatten(1) for part in self.schedule.at(timestep, noisy))
        views_ND = self.views.to(noisy).flatten(1)
        mean_D = views_ND.mean(0)
        apart_ND = views_ND - mean_D
        inner_BN = (noisy.flatten(1) - alpha * mean_D) @ apart_ND.T
        likelihood_BN = alpha * (inner_BN - alpha * apart_ND.square().sum(1) / 2) / (alpha**2 * self.config.std**2 + sigma**2)
        return (self.log_weights(conditioning).to(noisy) + likelihood_BN).softmax(-1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The ideal eps(z_t; camera, t) (B, 3, h, h) = sigma_t (z_t - alpha_t sum_i p(i | z_t) y_i) / v.

        It is -sigma_t times the score of the diffused mixture (Song et al. 2021, section 3; Karras et al. 2022, appendix B.3).
        """
        alpha, sigma = self.schedule.at(timestep, noisy)
        expected = torch.einsum("bn,nchw->bchw", self.posterior(noisy, timestep, conditioning), self.views.to(noisy))
        return sigma * (noisy - alpha * expected) / (alpha**2 * self.config.std**2 + sigma**2)


def _direction(cameras: CameraBatch) -> Tensor:
    """Unit vectors (B, 3) from the scene's centre to the cameras."""
    return F.normalize(cameras.position, dim=-1)
