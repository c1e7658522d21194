"""What the guidance itself draws: two-dimensional samples by DDIM, on one sheet. Shows what a model knows.

Legend: B images, C channels and side h of the guidance's space, T timesteps of its schedule.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfw.compose import compose
from dfw.config.camera_settings import ViewSettings
from dfw.config.settings import RunConfig
from dfw.errors import ConfigError
from dfw.interfaces.data import CameraBatch, PromptBatch
from dfw.interfaces.kinds import Guidance
from dfw.runs.attribution import naming
from dfw.runs.cameras import look_at, spherical_position
from dfw.runs.directory import slug, unused
from dfw.runs.prompts import ViewPrompts, view_heights, view_words
from dfw.runs.random_streams import derive_seed
from dfw.runs.trainer import pick_device

_GAP = 2
"""Pixels between the images of a sheet."""


def ddim_timesteps(total: int, steps: int) -> list[int]:
    """`steps` timesteps, evenly spaced downwards from T - 1; the step after the last one is the clean image.

    Raises ConfigError unless 1 <= steps <= T = `total`. Lin et al. 2024, table 2, "trailing".
    """
    if not 1 <= steps <= total:
        raise ConfigError(f"steps: {steps} must lie in 1 to {total}, the model's number of timesteps; 30 is plenty for most")
    return [round(total * (1 - i / steps)) - 1 for i in range(steps)]


@torch.no_grad()
def ddim(guidance: Guidance, prompt: PromptBatch, steps: int, scale: float, generator: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], one for each row of `prompt`. DDIM (Song et al. 2021), eq. 12 with eta = 0.

    Starts from noise of `generator`. `scale` is the classifier-free guidance scale, 1 for none.
    """
    side, device = guidance.latent_resolution, prompt.positive.embedding.device
    shape = (len(prompt.positive), guidance.channels, side, side)
    start = torch.randn(shape, generator=generator, device=generator.device).to(device)
    return guidance.decode_image(denoise(guidance, start, prompt, steps, scale))


def denoise(guidance: Guidance, noisy: Tensor, prompt: PromptBatch, steps: int, scale: float) -> Tensor:
    """Follows DDIM from `noisy` (B, C, h, h) at timestep T - 1 to the clean end of the schedule, in `steps` network calls."""
    timesteps = ddim_timesteps(len(guidance.schedule), steps)
    for index, value in enumerate(timesteps):
        timestep = torch.full((len(noisy),), value, device=noisy.device)
        noise = guidance.predict_noise_guided(noisy, timestep, prompt.positive, prompt.negative, scale)
        clean = guidance.predict_clean(noisy, timestep, noise)
        if index + 1 == len(timesteps):
            return clean
        noisy = guidance.add_noise(clean, noise, torch.full_like(timestep, timesteps[index + 1]))
    return noisy


def view_cameras(settings: ViewSettings, device: torch.device) -> CameraBatch:
    """One camera in the middle of each view that has words of its own, in `view_words`' order."""
    sectors = 1 if settings.mode == "none" else settings.sectors
    number = torch.arange(len(view_words(settings)), device=device)
    azimuth = number % sectors * (360.0 / sectors)
    elevation = torch.tensor(view_heights(settings), device=device)[number // sectors]
    ones = torch.ones_like(elevation)
    position = spherical_position(azimuth, elevation, 3 * ones)
    pose = look_at(position, torch.zeros_like(position), position.new_tensor([0.0, 0.0, 1.0]).expand_as(position))
    return CameraBatch(pose, 40 * ones, azimuth, elevation, 3 * ones, height=64, width=64)


def sample(config: RunConfig, count: int, steps: int, scale: float, out: Path, views: bool = False) -> Path:
    """Draws the configuration's prompt with its guidance and writes one PNG; returns its path.

    `count` images side by side; with `views`, a row of `count` for each view's words. `out` is a PNG file or a folder; a file
    that exists is kept, and the new one takes the next free number. Raises ConfigError when the configuration has no guidance.
    """
    guidance = _guidance(config)
    with naming([guidance], lambda: "while it drew a sample"):
        return _sample(config, guidance, count, steps, scale, out, views)


def _sample(config: RunConfig, guidance: Guidance, count: int, steps: int, scale: float, out: Path, views: bool) -> Path:
    settings = config.views if views else ViewSettings(mode="none")
    prompts = ViewPrompts(config.prompt, config.negative_prompt, settings, guidance)
    device = pick_device(config.device)
    generator = torch.Generator(device).manual_seed(derive_seed(config.seed, "sample"))
    cameras = view_cameras(settings, device)
    rows = [cameras.select(torch.full((count,), row, device=device)) for row in range(len(cameras))]
    images = torch.stack([ddim(guidance, prompts.batch(row), steps, scale, generator) for row in rows])
    path = unused(out if out.suffix.lower() == ".png" else out / f"{slug(config.prompt)}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(images).save(path)
    return path


def _guidance(config: RunConfig) -> Guidance:
    device = pick_device(config.device)
    guidance = compose(config).build_guidance()
    if guidance is None:
        raise ConfigError("guidance: this configuration has none, so there is nothing to sample; add a guidance: section")
    return guidance.to(device)


def contact_sheet(images: Tensor) -> Image.Image:
    """Images (rows, columns, 3, H, W) in [0, 1] as one picture, white lines between them."""
    rows, columns, _, height, width = images.shape
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + _GAP), column * (width + _GAP)
            sheet[top : top + height, left : left + width] = pixels[row, column]
    return Image.fromarray(sheet)
