"""Trains the autoencoder, for sharp reconstructions from a smooth, cheap encoder."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from data import World
from diffusers import AutoencoderKL
from precision import fast_autocast
from torch import Tensor


@dataclass(frozen=True)
class VaePlan:
    """Size and weights of the autoencoder's training. It ends after ``steps`` or ``minutes``."""

    steps: int = 3000
    minutes: float = 1e9
    crops: float = 0.6
    """Share of the training on random quarters of images, at a quarter of the cost."""
    batch: int = 32
    rate: float = 2e-3
    kl: float = 5e-4
    edge: float = 0.5
    decoder_only: bool = False
    """Whether to train only the decoder, so that latents stay as they are."""
    noise: float = 0.03
    """Largest standard deviation of the noise on the encoder's input. It keeps the encoder's gradient smooth."""


def edges(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns horizontal and vertical differences."""
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def loss_of(vae: AutoencoderKL, images: Tensor, plan: VaePlan, generator: torch.Generator) -> tuple[Tensor, float]:
    """Returns the loss on images ``[B, 3, S, S]`` in [-1, 1], and the mean absolute error in [0, 1] units."""
    level = plan.noise * torch.rand(len(images), 1, 1, 1, generator=generator)
    noisy = images + 2 * level * torch.randn(images.shape, generator=generator)
    with fast_autocast():
        mean, logvar = vae.encode(noisy).latent_dist.parameters.float().chunk(2, 1)
        logvar = logvar.clamp(-20, 10)
        latent = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=generator)
        decoded = vae.decode(latent).sample.float()
    error = (decoded - images).abs().mean()
    sharp = sum(((a - b).abs().mean() for a, b in zip(edges(decoded), edges(images), strict=True)), torch.zeros(()))
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return error + plan.edge * sharp + plan.kl * kl, float(error.detach()) / 2


def schedule(step: int, steps: int, warm: int) -> float:
    """Returns the rate's factor: a linear warm-up, then half a cosine."""
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm)))


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Cuts out a random quarter ``[B, 3, S / 2, S / 2]``, the same for the whole batch."""
    half = images.shape[-1] // 2
    row, column = torch.randint(half + 1, (2,), generator=generator).tolist()
    return images[..., row : row + half, column : column + half]


def train_vae(vae: AutoencoderKL, world: World, plan: VaePlan, seed: int) -> None:
    """Trains in place and sets ``scaling_factor`` to one over the latents' standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    vae.requires_grad_(not plan.decoder_only)
    if plan.decoder_only:
        vae.decoder.requires_grad_(True)
        vae.post_quant_conv.requires_grad_(True)
    else:
        torch.nn.init.constant_(vae.quant_conv.bias[4:], -6.0)  # start with nearly noiseless latents
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    start, shown, step, progress = time.monotonic(), 1.0, 0, 0.0
    while progress < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * schedule(int(progress * 10000), 10000, 200)
        whole = progress >= plan.crops
        images = world.draw(plan.batch // 2 if whole else plan.batch, generator).images * 2 - 1
        images = images if whole else crop(images, generator)
        loss, error = loss_of(vae, images, plan, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step, shown = step + 1, error if step == 0 else 0.98 * shown + 0.02 * error
        progress = max(step / plan.steps, (time.monotonic() - start) / (60 * plan.minutes))
        if step % 100 == 0:
            print(f"vae {step} error {shown:.4f} {time.monotonic() - start:.0f} s", flush=True)
    if plan.decoder_only:
        return
    vae.register_to_config(scaling_factor=latent_scale(vae, world, generator, min(512, 16 * plan.steps)))


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, world: World, generator: torch.Generator, count: int) -> float:
    """Returns one over the standard deviation of latents."""
    images = world.draw(count, generator).images * 2 - 1
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(64)])
    return float(1.0 / latents.std())
