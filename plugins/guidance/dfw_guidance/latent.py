"""Latent diffusion: a VAE between the images and the space in which noise is added (Rombach et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from dfw_guidance.damage import read_table
from dfw_guidance.files import Files
from dfw_guidance.precision import dtype_of, fit_gradient, unfit_gradient
from dfw_guidance.pretrained import Pretrained


class Latent(Pretrained):
    """A pretrained model with a VAE: z = (E(x) - shift) scale, by `shift_factor` and `scaling_factor` of its configuration."""

    vae: Any

    @classmethod
    def _shrinks(cls, folder: Path) -> int:
        blocks = read_table(folder / "vae" / "config.json").get("block_out_channels", ())
        return 2 ** (len(blocks) - 1) if blocks else 1

    def _load_vae(self, files: Files, channels: int, side: int, resolution: int | None = None, patch: int = 1) -> None:
        """Loads the VAE and sets the sizes of both spaces.

        Latents are `channels` x `side` x `side`, or fit images of side `resolution` if that is given. Raises ValueError unless
        the latents' side is a multiple of `patch`.
        """
        from diffusers import AutoencoderKL

        self.vae = self._small_autoencoder() or files.network(AutoencoderKL, "vae")
        factor = int(2 ** (len(self.vae.config.block_out_channels) - 1))
        self.space: Literal["pixel", "latent"] = "latent"
        self.channels, self.resolution = channels, resolution or side * factor
        self.latent_resolution = self.resolution // factor
        if self.resolution % (factor * patch):
            raise ValueError(f"resolution {self.resolution} must be a multiple of {factor * patch}")
        if channels != int(self.vae.config.latent_channels):
            raise ValueError(f"its network reads {channels} channels and its VAE makes {self.vae.config.latent_channels}")

    def _small_autoencoder(self) -> Any:
        """Returns what the configuration puts in the VAE's place, or None."""
        return None

    def encode_image(self, image: Tensor) -> Tensor:
        """Returns the mean of the VAE's posterior, scaled for the network: (B, 3, H, W) in [0, 1] -> (B, C, h, w), same dtype.

        It draws no sample: the posterior of these VAEs is narrow compared with the noise that a loss adds. A small autoencoder
        has no posterior, and its latents need no scale.
        """
        scaled, memory = fit_gradient(2 * image - 1, dtype_of(self.vae))
        with self._own_precision():
            found = self.vae.encode(scaled)
            mean = found.latents if hasattr(found, "latents") else found.latent_dist.mean
        return (unfit_gradient(mean, image.dtype, memory) - self._shift) * float(self.vae.config.scaling_factor)

    def decode_image(self, encoded: Tensor) -> Tensor:
        """Decodes latents (B, C, h, w) to images (B, 3, H, W) in [0, 1], in the latents' dtype."""
        plain = encoded / float(self.vae.config.scaling_factor) + self._shift
        with self._own_precision():
            image: Tensor = self.vae.decode(plain.to(dtype_of(self.vae))).sample
        return (image.to(encoded.dtype) / 2 + 0.5).clamp(0, 1)

    @property
    def _shift(self) -> float:
        return float(self.vae.config.shift_factor or 0)
