"""Renders a reference picture of one of dfw's exact procedural scenes, with its mask as alpha.

python -m dreamfw_two_priors.reference "a purple mushroom" --out reference.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

import dfw
from dfw import Geometry, Renderer, cameras_at


def render(shape: str, azimuth: float, elevation: float, distance: float, fov: float, side: int) -> Image.Image:
    """Returns an RGBA picture, `side` pixels square, of the scene that `shape` names. Angles are degrees. Raises DfwError."""
    geometry = cast(Geometry, dfw.build("geometry", "dreamfw/sdf-scene", shape=shape))
    black = {"type": "dreamfw/solid", "colour": [0, 0, 0]}
    renderer = cast(Renderer, dfw.build("renderer", "dreamfw/volume", samples=256, background=black))
    one = torch.ones(1)
    with torch.no_grad():
        made = renderer.eval()(geometry, cameras_at(one * azimuth, one * elevation, one * distance, one * fov, side, side))
    opacity = made.opacity[..., None]
    # over black, colour is premultiplied
    pixels = torch.cat([made.colour / opacity.clamp_min(1e-3), opacity], -1).clamp(0, 1)[0]
    return Image.fromarray((255 * pixels).round().byte().numpy().astype(np.uint8), "RGBA")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", help='what to show, e.g. "a purple mushroom"')
    parser.add_argument("--out", type=Path, default=Path("reference.png"), help="PNG to write (default: %(default)s)")
    parser.add_argument("--azimuth", type=float, default=0.0, help="degrees; 0 sees the front (default: %(default)s)")
    parser.add_argument("--elevation", type=float, default=15.0, help="degrees (default: %(default)s)")
    parser.add_argument("--distance", type=float, default=3.0, help="world units (default: %(default)s)")
    parser.add_argument("--fov", type=float, default=40.0, help="degrees (default: %(default)s)")
    parser.add_argument("--side", type=int, default=128, help="pixels (default: %(default)s)")
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    render(asked.shape, asked.azimuth, asked.elevation, asked.distance, asked.fov, asked.side).save(asked.out)
    print(asked.out)


if __name__ == "__main__":
    main()
