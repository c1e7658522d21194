"""Runs `two-priors.yaml` with and without the losses that look at the picture, and says how near each comes to it.

python compare.py --out compare       # in a folder with reference.png and novel-view, as two-priors.yaml says

Writes compare/compare.png: the picture, then front, right side, back and left side of both scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import dfw
from dfw import Cameras, Progress, RenderOutput, Run, Views

CONFIG = Path(__file__).with_name("two-priors.yaml")
QUIET = ("export.formats=[]", "export.turntable_frames=0")
WITHOUT = ("losses.rgb.weight=0", "losses.mask.weight=0")


def agreement(render: RenderOutput, views: Views) -> tuple[float, float]:
    """Returns the PSNR inside the mask, in decibels, and the IoU of the silhouettes."""
    mask, colour = views.targets["mask"], views.targets["colour"]
    error = (mask[..., None] * (render.colour - colour)).square().sum() / (3 * mask.square().sum())
    iou = torch.minimum(render.opacity, mask).sum() / torch.maximum(render.opacity, mask).sum()
    return float(-10 * error.log10()), float(iou)


def reference_views(run: Run) -> Views:
    """Returns the picture and its camera, as the run's configuration has them."""
    settings = run.config.view_sets["reference"]
    cameras = dfw.build("cameras", settings.type, **settings.options)
    assert isinstance(cameras, Cameras)
    return cameras.sample(Progress(0, 1), torch.Generator())


def around(run: Run, width: int) -> Tensor:
    """Returns front, right side, back and left side (4, H, W, 3)."""
    return torch.cat([run.scene.render(azimuth=angle, width=width).colours for angle in (0, -90, 180, 90)])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("compare"), help="folder to write into (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="for both runs, such as trainer.steps=50")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    sheet: list[Tensor] = []
    for name, losses in (("without", WITHOUT), ("with", ())):
        run = dfw.run(CONFIG, *QUIET, f"output={asked.out / name}", *losses, *asked.overrides)
        views = reference_views(run)
        decibels, iou = agreement(run.scene.render(views.cameras).render, views)
        print(f"{name} the picture's losses: PSNR {decibels:.1f} dB inside the mask, silhouettes' IoU {iou:.2f}")
        sheet += [views.targets["colour"], around(run, views.cameras.width)]
    rows = [torch.cat(list(torch.cat(sheet[index : index + 2])), dim=1) for index in (0, 2)]
    pixels = (255 * torch.cat(rows).clamp(0, 1)).round().byte().numpy()
    Image.fromarray(pixels).resize((2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.NEAREST).save(
        asked.out / "compare.png"
    )


if __name__ == "__main__":
    main()
