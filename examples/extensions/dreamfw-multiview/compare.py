"""Draws scenes with the embedded prior, its attention across the views and not, from the same noise; says how alike views are.

python compare.py --out compare.png

Each row of the sheet is two scenes of four views (front, left, back, right): across the views, and each view by itself.
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
    """Returns how far views of a scene are apart in colour: root mean squares of the middle's and the border's mean colours.

    Of the middle third, where the thing is, and of a border of a tenth; each from the mean over its scene's views.
    """
    side = images.shape[-1]
    third, tenth = side // 3, side // 10
    middle = images[..., third:-third, third:-third].mean((2, 3))
    corner = torch.cat([images[..., :tenth, :].mean((2, 3), keepdim=True), images[..., -tenth:, :].mean((2, 3), keepdim=True)], -1)
    found = []
    for colour in (middle, corner.mean((2, 3))):
        scenes = colour.view(SCENES, VIEWS, 3)
        found.append(float((scenes - scenes.mean(1, keepdim=True)).square().mean().sqrt()))
    return found[0], found[1]


@torch.no_grad()
def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="PNG to write (default: %(default)s)")
    asked = parser.parse_args()
    guidance = dfw.build("guidance", "dreamfw-multiview/inflated")
    assert isinstance(guidance, Inflated)
    unet = next(part for part in guidance.prior.modules() if isinstance(part, UNet2DConditionModel))
    rows = []
    for prompt in PROMPTS:
        words = described(guidance, prompt)
        side = guidance.latent_resolution
        start = torch.randn(SCENES * VIEWS, guidance.channels, side, side, generator=torch.Generator().manual_seed(0))
        for name, together in (("across the views", VIEWS), ("by themselves", 1)):
            inflate(unet, together)
            images = ddim(guidance, words, start)
            middle, border = unlike(images)
            print(f"{prompt}, {name}: colours differ by {middle:.3f} in the middle, {border:.3f} at the border")
            rows.append(torch.cat(list(images[: 2 * VIEWS].permute(0, 2, 3, 1)), dim=1))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.cat([torch.cat(rows[index : index + 2]) for index in range(0, len(rows), 2)])
    Image.fromarray((255 * pixels).round().byte().numpy()).save(asked.out)


if __name__ == "__main__":
    main()
