"""Fits the linear map between latents and colours of the shipped VAE: the numbers of `configs/latent-nerf.yaml`.

    python tools/prior/latent_colours.py

`colours` is fitted by least squares to ten true objects from eight sides each, on backgrounds of random colours: the latents of a
picture against its mean colour under each of them. `flat_latents` is fitted to even pictures of 256 random colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw import Guidance, orbit
from dfw.compose import compose
from dfw.config.load import load_config
from dfw_geometry.sdf_scene import SdfScene
from dfw_renderers.volume import Volume

PROMPTS = (
    "a red mushroom", "a blue car", "a yellow duck", "a green tree", "a pink teapot", "a white mug", "a brown chair",
    "a black lamp", "a purple house", "an orange fish",
)  # fmt: skip
EVEN = 256


def affine(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, float]:
    """Returns the rows (K + 1, M) that map `inputs` (N, K) to `outputs` (N, M) best, and the mean absolute error."""
    wide = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    rows = torch.linalg.lstsq(wide, outputs).solution
    return rows, float((wide @ rows - outputs).abs().mean())


def objects(guidance: Guidance, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns latents (N, C) of pictures of true objects, and the colours (N, 3) under them."""
    renderer = Volume(Volume.Config(background={"type": "dreamfw/random", "probability": 1.0})).train()
    side, small = guidance.resolution, guidance.latent_resolution
    latents, colours = [], []
    for prompt in PROMPTS:
        scene = SdfScene(SdfScene.Config(shape=prompt))
        picture = renderer(scene, orbit(8, 20.0, 3.0, 40.0, side, side), generator).colour.permute(0, 3, 1, 2)
        latents.append(guidance.encode_image(picture))
        colours.append(F.avg_pool2d(picture, side // small))
    return tuple(torch.cat(each).permute(0, 2, 3, 1).flatten(0, 2) for each in (latents, colours))  # type: ignore[return-value]


@torch.no_grad()
def main() -> None:
    """Prints both tables as YAML."""
    guidance = compose(load_config("dreamfusion")).guidance("guidance")
    generator = torch.Generator().manual_seed(0)
    even, side = torch.rand(EVEN, 3, generator=generator), guidance.resolution
    shown = guidance.encode_image(even[:, :, None, None].expand(-1, -1, side, side))
    border = guidance.latent_resolution // 4  # what the VAE pads is not even
    inner = shown[:, :, border:-border, border:-border].mean((2, 3))
    for name, pair in (("colours", objects(guidance, generator)), ("flat_latents", (even, inner))):
        rows, error = affine(*pair)
        listed = ", ".join(f"[{', '.join(f'{value:.3f}' for value in row)}]" for row in rows.tolist())
        print(f"{name}: [{listed}] # mean absolute error {error:.3f}")


if __name__ == "__main__":
    main()
