"""What the guidance itself draws: two-dimensional samples by DDIM, on one sheet. Shows what a model knows.

Legend: B images, C channels and side h of the guidance's space, T timesteps of its schedule.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dfw.atomic import unused
from dfw.compose import Composition
from dfw.config.schedules import Progress
from dfw.config.settings import RunConfig
from dfw.errors import ConfigError
from dfw.export.pictures import save_grid
from dfw.interfaces.checks import check_guidance
from dfw.interfaces.data import CameraBatch, PromptBatch
from dfw.interfaces.guidance import Guidance
from dfw.runs.attribution import naming
from dfw.runs.directory import slug
from dfw.runs.prompt_table import PromptTable
from dfw.runs.random_streams import derive_seed
from dfw.runs.trainer import pick_device


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


def sample(
    composition: Composition, count: int, steps: int, scale: float, out: Path, views: bool = False, name: str | None = None
) -> Path:
    """Draws the configuration's prompt with its guidance and writes one PNG; returns its path.

    `count` images side by side. With `views`, a row of `count` for each view that has words of its own. A guidance that sees
    several views of a scene at once, or that reads no text, shows the views of the run's cameras: a row for each scene. `out` is
    a PNG file or a folder; a file that exists is kept, and the new one takes the next free number. `name`: which of several
    guidances. Raises ConfigError when the configuration has none.
    """
    guidance = open_guidance(composition, name)
    with naming([guidance], lambda: "while it drew a sample"):
        images = _draw(composition, guidance, count, steps, scale, views)
    config = composition.config
    settings = f"seed{config.seed}-steps{steps}-scale{scale:g}{'-views' if views else ''}"
    path = unused(out if out.suffix.lower() == ".png" else out / f"{slug(config.subject)}-{settings}.png")
    columns = images.shape[1]
    return save_grid(images.flatten(0, 1).permute(0, 2, 3, 1), path, columns)


def _draw(composition: Composition, guidance: Guidance, count: int, steps: int, scale: float, views: bool) -> Tensor:
    """Images (rows, columns, 3, H, W) in [0, 1]."""
    config, device = composition.config, guidance.schedule.alpha.device
    generator = torch.Generator(device).manual_seed(derive_seed(config.seed, "sample"))
    rows = [guidance_views(composition, guidance, count, generator)] if _knows_cameras(guidance) else []
    prompter = composition.prompter()
    seen = prompter.views() if views and prompter is not None else None
    if rows:
        together = type(guidance).sees(guidance.config)
        columns = together if together > 1 else count
    elif seen is not None:
        rows, columns = [seen.to(device).select(torch.full((count,), row)) for row in range(len(seen))], count
    else:
        prompts = [as_written(guidance, config, count)]
        columns = count
    if rows:
        table = PromptTable(guidance, prompter, config.prompt, config.negative_prompt)
        prompts = [table.batch(row) for row in rows]
    images = torch.cat([ddim(guidance, prompt, steps, scale, generator) for prompt in prompts])
    return images.view(-1, columns, *images.shape[1:])


def _knows_cameras(guidance: Guidance) -> bool:
    """Whether a sample needs cameras: the model sees several views at once, or reads no text."""
    return type(guidance).sees(guidance.config) > 1 or "text" not in type(guidance).provides(guidance.config)


def guidance_views(composition: Composition, guidance: Guidance, count: int, generator: torch.Generator) -> CameraBatch:
    """Views of the run's training cameras: `count` scenes of as many views as the guidance sees at once."""
    together = type(guidance).sees(guidance.config)
    cameras = composition.cameras()["cameras"].to(generator.device)
    found: list[CameraBatch] = []
    while sum(map(len, found)) < count * together:
        found.append(cameras.sample(Progress(0, 1), generator).cameras)
    return CameraBatch.cat(found).select(slice(0, count * together))


def prompt_for(composition: Composition, guidance: Guidance, count: int, generator: torch.Generator) -> PromptBatch:
    """`count` rows of the run's prompt, with cameras for a guidance that needs them; a multiple of the views it sees at once."""
    config = composition.config
    if not _knows_cameras(guidance):
        return as_written(guidance, config, count)
    scenes = count // type(guidance).sees(guidance.config)
    table = PromptTable(guidance, composition.prompter(), config.prompt, config.negative_prompt)
    return table.batch(guidance_views(composition, guidance, scenes, generator))


@torch.no_grad()
def as_written(guidance: Guidance, config: RunConfig, count: int) -> PromptBatch:
    """The prompt without words for views, and the negative one: `count` rows each."""
    guidance.encode_text([config.prompt, config.negative_prompt])  # both in one call, as `PromptTable` does; models keep texts
    row = torch.zeros(count, dtype=torch.int64, device=guidance.schedule.alpha.device)
    positive, negative = guidance.encode_text([config.prompt]), guidance.encode_negative(config.negative_prompt)
    return PromptBatch(positive.select(row), negative.select(row))


def open_guidance(composition: Composition, name: str | None = None) -> Guidance:
    """The run's guidance, or the one called `name`, on the run's device. Raises ConfigError."""
    models = list(composition.config.models)
    if not models:
        raise ConfigError("guidance: this configuration has none, so there is nothing to ask; add a guidance: section")
    if (name is None and len(models) > 1) or (name is not None and name not in models):
        raise ConfigError(f"--guidance: name one of {', '.join(models)}")
    device = pick_device(composition.config.device)
    guidance = composition.guidance(name or models[0]).to(device)
    check_guidance(guidance)
    guidance.schedule = guidance.schedule.to(device)
    return guidance
