"""Draws scenes with the embedded prior, its attention across the views and not, from the same noise; says how alike views are.

python compare.py --out compare.png

Each row of the sheet is one prompt, four views (front, left, back, right): across the views, then each view by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from dreamfw_multiview.attention import inflate
from dreamfw_multiview.guidance import Inflated
from PIL import Image
from torch import Tensor

import dfw
from dfw import Conditioning, Prompter, orbit

PROMPTS = ("a mushroom", "a car", "a cake")  # without a colour, so that each view may choose one
VIEWS, SCENES, STEPS, SCALE = 4, 8, 25, 7.5


def described(guidance: Inflated, prompt: str) -> Conditioning:
    """Returns what the prior reads for each view of the scenes, in the words of the directional prompter."""
    prompter = dfw.build("prompter", "dreamfw/directional", sectors=8, angles=4)
    assert isinstance(prompter, Prompter)
    rows = prompter.choose(orbit(VIEWS, 15, 3, 40, 64, 64)).rows[:, 0].repeat(SCENES)
    return guidance.encode_text(prompter.texts(prompt)).select(rows)


def ddim(guidance: Inflated, prompt: Conditioning, noisy: Tensor) -> Tensor:
    """Returns images (B, 3, H, H) in [0, 1]. DDIM (Song et al. 2021), eq. 12 with eta = 0, trailing timesteps."""
    nothing = guidance.unconditional().select(torch.zeros(len(noisy), dtype=torch.long))
    times = [round(len(guidance.schedule) * (1 - index / STEPS)) - 1 for index in range(STEPS)]
    clean = noisy
    for index, time in enumerate(times):
        timestep = torch.full((len(noisy),), time)
        noise = guidance.predict_noise_guided(noisy, timestep, prompt, nothing, SCALE)
        clean = guidance.predict_clean(noisy, timestep, noise)
        if index + 1 < STEPS:
            noisy = guidance.add_noise(clean, noise, torch.full_like(timestep, times[index + 1]))
    return guidance.decode_image(clean)


def unlike(images: Tensor) -> tuple[float, float]:
    """Returns how far apart the views of a scene are in colour: of the thing, and of what is behind it.

    The colour of the thing is the mean of the middle third, that of the background the mean of the upper tenth. From each the
    mean over its scene's views is taken; the figure is the root mean square of what is left.
    """
    side = images.shape[-1]
    third, tenth = slice(side // 3, -(side // 3)), slice(0, side // 10)
    colours = (images[..., third, third].mean((2, 3)), images[..., tenth, :].mean((2, 3)))
    scenes = torch.stack(colours).view(2, SCENES, VIEWS, 3)
    thing, behind = (scenes - scenes.mean(2, keepdim=True)).square().mean((1, 2, 3)).sqrt().tolist()
    return thing, behind


@torch.no_grad()
def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="PNG to write (default: %(default)s)")
    asked = parser.parse_args()
    guidance = dfw.build("guidance", "dreamfw-multiview/inflated")
    assert isinstance(guidance, Inflated)
    unet = next(part for part in guidance.prior.modules() if isinstance(part, UNet2DConditionModel))
    side, rows = guidance.latent_resolution, []
    for prompt in PROMPTS:
        words, row = described(guidance, prompt), []
        start = torch.randn(SCENES * VIEWS, guidance.channels, side, side, generator=torch.Generator().manual_seed(0))
        for name, together in (("across the views", VIEWS), ("each view by itself", 1)):
            inflate(unet, together)
            images = ddim(guidance, words, start)
            thing, behind = unlike(images)
            print(f"{prompt}, {name}: colours of the thing differ by {thing:.3f}, behind it by {behind:.3f}")
            row += list(images[:VIEWS].permute(0, 2, 3, 1))
        rows.append(torch.cat(row, dim=1))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * torch.cat(rows)).round().byte().numpy()).save(asked.out)


if __name__ == "__main__":
    main()
