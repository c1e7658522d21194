"""Compares sampling with optimising: DDIM, pixels under SDS and a NeRF under SDS (the fourth claim of docs/claims.md).

Legend: P pictures, H, W their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dfw.compose import compose
from dfw.config.load import load_config
from dfw.plugins.registry import registry
from dfw.prior.sample import as_written, ddim
from dfw.runs.start import make_trainer
from dfw.runs.trainer import StepRecord

PROMPTS = ("a red mushroom", "a yellow duck")
SCALES = (1.0, 10.0, 100.0)
"""Guidance scales of sampling and of optimising pixels. The scene has its configuration's ramp from 10 to 3."""
COUNT = 3
"""Pictures of each kind, from different noise. Of the NeRF: views around it, the first from the front."""
PIXEL_STEPS = 120
NERF_STEPS = 150
TILE = 96
LABEL = 112


@dataclass(frozen=True)
class Look:
    """Figures of pictures in [0, 1]."""

    spread: float
    """Root mean square over pixels of the deviation between pictures."""
    chroma: float
    """Mean of largest minus smallest channel."""
    clipped: float
    """Share of numbers within 0.01 of 0 or 1."""


def look(images: Tensor) -> Look:
    """Computes the figures of pictures (P, 3, H, W), P >= 2."""
    spread = float(images.double().var(0).mean().sqrt())
    chroma = float((images.amax(1) - images.amin(1)).double().mean())
    return Look(spread, chroma, float(((images < 0.01) | (images > 0.99)).double().mean()))


def sampled(config: str, overrides: Sequence[str], count: int, scale: float, steps: int = 25) -> Tensor:
    """Samples DDIM's pictures (count, 3, H, W), as `dfw sample` does."""
    settings = load_config(config, overrides)
    guidance = compose(settings).guidance("guidance")
    prompt = as_written(guidance, settings, count)
    return ddim(guidance, prompt, steps, scale, torch.Generator().manual_seed(settings.seed))


def optimised(config: str, overrides: Sequence[str], count: int) -> Tensor:
    """Runs a configuration. Returns `count` pictures (count, 3, H, W) of its planes, or of views around its scene."""
    settings = load_config(config, ["device=cpu", *overrides])
    trainer = make_trainer(settings, compose(settings, registry()).build())
    records: list[StepRecord] = []
    trainer.train(lambda: False, records.append)
    assert len(records) == settings.trainer.steps
    views = trainer.scene.views(count, settings.trainer.preview_width)
    return trainer.scene.render(views).colours.permute(0, 3, 1, 2)


def pixels(prompt: str, scale: float, steps: int = PIXEL_STEPS) -> Tensor:
    """Optimises COUNT planes of pixels under SDS, each from its own start and with its own noise."""
    options = [f"prompt={prompt}, front view", f"losses.sds.guidance_scale={scale}", f"trainer.steps={steps}"]
    options += [f"geometry.count={COUNT}", f"cameras.batch_size={COUNT}", "trainer.preview_width=64"]
    return optimised("playground-2d", options, COUNT)


def nerf(prompt: str, steps: int = NERF_STEPS) -> Tensor:
    """Runs the default scene for a short time at 32x32. Returns views around it, the first from the front."""
    options = [f"prompt={prompt}", f"trainer.steps={steps}", "cameras.width=32", "trainer.preview_width=64"]
    return optimised("dreamfusion", options, COUNT)


def sheet(rows: dict[str, list[Tensor]]) -> Image.Image:
    """Draws rows of pictures with their label at the left, and a wider gap between the groups of a row."""
    gap, apart = 2, 12
    groups = next(iter(rows.values()))
    width = LABEL + sum(len(group) * (TILE + gap) for group in groups) + apart * (len(groups) - 1)
    picture = Image.new("RGB", (width, len(rows) * (TILE + gap)), "white")
    for row, (label, images) in enumerate(rows.items()):
        top, left = row * (TILE + gap), LABEL
        ImageDraw.Draw(picture).text((4, top + TILE // 2), label, fill="black", anchor="lm")
        for group in images:
            for image in group:
                tile = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
                picture.paste(
                    Image.fromarray(np.ascontiguousarray(tile)).resize((TILE, TILE), Image.Resampling.BICUBIC), (left, top)
                )
                left += TILE + gap
            left += apart
    return picture


def pictures(prompt: str) -> dict[tuple[str, float | None], Tensor]:
    """Makes all pictures of one prompt: (method, guidance scale) -> pictures (COUNT, 3, 64, 64)."""
    viewed = f"{prompt}, front view"
    made: dict[tuple[str, float | None], Tensor] = {}
    made |= {("DDIM", scale): sampled("playground-2d", [f"prompt={viewed}"], COUNT, scale) for scale in SCALES}
    made |= {("pixels", scale): pixels(prompt, scale) for scale in SCALES}
    made["NeRF", None] = nerf(prompt)
    return made


def table(made: dict[str, dict[tuple[str, float | None], Tensor]]) -> str:
    """Returns the figures of each prompt's pictures as a table, without the scene's."""
    lines = ["| pictures | prompt | guidance scale | spread | chroma | clipped |", "|---|---|---|---|---|---|"]
    for prompt, found in made.items():
        for (name, scale), images in found.items():
            if scale is None:  # these are views of one scene, so their spread means something else
                continue
            at = look(images)
            lines.append(f"| {name} | {prompt} | {scale:g} | {at.spread:.3f} | {at.chroma:.3f} | {at.clipped:.3f} |")
    return "\n".join(lines)


def rows_of(made: dict[str, dict[tuple[str, float | None], Tensor]]) -> dict[str, list[Tensor]]:
    """Returns label -> the pictures of each prompt, for `sheet`."""
    return {
        name if scale is None else f"{name}, s = {scale:g}": [found[name, scale] for found in made.values()]
        for name, scale in made[PROMPTS[0]]
    }
