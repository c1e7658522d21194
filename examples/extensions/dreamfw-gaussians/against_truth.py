"""How well runs show the object of their prompt: python against_truth.py RUN [RUN ...]

The true shape of a prompt that the shipped prior knows is built in (`sdf-scene`). Prints PSNR and the IoU of silhouettes over
16 views at 64x64, before white.
"""

from __future__ import annotations

import sys

import torch

import dfw

VIEWS, SIDE = 16, 64


def figures(directory: str) -> tuple[int, float, float]:
    """Gaussians at the end, PSNR in decibels, IoU of silhouettes."""
    run = dfw.open(directory, device="cpu")
    scene = run.scene
    cameras = scene.views(VIEWS, SIDE)
    truth = dfw.build("geometry", "sdf-scene", shape=run.config.prompt).eval()
    renderer = dfw.build("renderer", "volume", background="solid").eval()
    with torch.no_grad():
        true = renderer(truth, cameras)
    made = scene.render(cameras)
    error = (made.colours - true.colour.clamp(0, 1)).square().mean()
    ours, theirs = made.render.opacity > 0.5, true.opacity > 0.5
    count = int((~scene.geometry.dead()).sum())
    return count, float(-10 * error.log10()), int((ours & theirs).sum()) / int((ours | theirs).sum())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for path in sys.argv[1:]:
        count, psnr, overlap = figures(path)
        print(f"{path}: {count} Gaussians, PSNR {psnr:.2f} dB, silhouettes {overlap:.3f}")
