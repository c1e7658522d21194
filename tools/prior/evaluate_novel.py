"""Samples other views of pictures of held-out things: are they right? The picture itself is the answer to compare with.

    python tools/prior/evaluate_novel.py OUT/model --card OUT/model/README.md

"PSNR" is that of the views against the true shape, in the mean of several lights, over all pixels. "outline" is the intersection
over union of silhouettes. "kind", "colour" and the two "view" columns are the judge's, as in `evaluate.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from captions import caption, sector
from evaluate import Question, score, write_card
from evaluate_views import APART, overlap
from heldout import HELD_OUT
from portraits import DISTANCE, FOVY, Portrait
from torch import Tensor

from dfw import Conditioning, PromptBatch, cameras_at, over
from dfw.export.pictures import save_grid
from dfw.prior.sample import ddim
from dfw_geometry.shapes import Single
from dfw_guidance.clip_vision import squared
from dfw_guidance.zero123 import Zero123
from dfw_scorers.judge.network import Judge

TURNS = (60.0, 120.0, 180.0, 240.0, 300.0)
"""Azimuths of the views relative to the picture's, degrees."""
HEIGHTS = (0.0, 30.0, 15.0, 30.0, 0.0)
"""Their elevations, degrees."""
COLUMNS = ("group", "images", "PSNR", "outline", "kind", "colour", "both", "view", "view within 45")


def portraits(count: int, photographs: bool, generator: torch.Generator, turn: float = 360.0) -> list[Portrait]:
    """Draws pictures of held-out pairs of kind and colour, evenly: azimuths in ``turn`` degrees around 0, elevations 0-30."""
    pairs = sorted((kind, colour) for colour, kind in HELD_OUT)
    chosen = [pairs[number * len(pairs) // count % len(pairs)] for number in range(count)]
    angles = torch.rand(count, 2, generator=generator) * torch.tensor([turn, 30.0]) - torch.tensor([turn / 2, 0.0])
    return [Portrait(*pair, *place, photographs) for pair, place in zip(chosen, angles.tolist(), strict=True)]


def around(portrait: Portrait) -> Tensor:
    """Returns azimuth and elevation ``[T, 2]`` of the views that are asked for."""
    return torch.tensor([(portrait.azimuth + turn, height) for turn, height in zip(TURNS, HEIGHTS, strict=True)])


@torch.no_grad()
def sample(guidance: Zero123, angles: Tensor, steps: int, scale: float, seed: int) -> Tensor:
    """Samples the views at ``angles`` ``[B, 2]`` by DDIM: images ``[B, 3, 64, 64]`` in [0, 1]."""
    full = torch.ones(len(angles))
    cameras = cameras_at(*angles.T, DISTANCE * full, FOVY * full, 64, 64)
    rows = torch.zeros(len(angles), dtype=torch.long)
    positive, negative = (
        Conditioning(one.embedding[rows], extras={"known": one.extras["known"][rows]}, cameras=cameras)
        for one in (guidance.conditional(), guidance.unconditional())
    )
    return ddim(guidance, PromptBatch(positive, negative), steps, scale, torch.Generator().manual_seed(seed))


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratios ``[B]``, dB."""
    return -10 * (images - truth).square().mean((1, 2, 3)).clamp_min(1e-8).log10()


def figures(judge: Judge, images: Tensor, truth: Tensor, asked: list[Question]) -> dict[str, float]:
    """Returns the figures of ``images`` ``[B, 3, H, W]``. ``truth`` ``[B, 4, H, W]`` is over white."""
    masks = (1 - images).amax(1) > APART
    found = {
        "PSNR": float(psnr(images, truth[:, :3] + 1 - truth[:, 3:]).mean()),
        "outline": float(overlap(masks, truth[:, 3] > 0.5).mean()),
    }
    return {**found, **score(judge, images, asked)}


def main(argv: list[str]) -> None:
    """Prints the figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--things", type=int, default=35, help="pictures of each group")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--share", type=float, default=0.65)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets: picture, then truth above samples")
    parser.add_argument("--card", type=Path, help="model card whose table of figures to replace")
    args = parser.parse_args(argv)
    judge = Judge.load()
    rows: list[dict[str, object]] = []
    for name, photographs in (("pictures", False), ("photographs", True)):
        generator = torch.Generator().manual_seed(args.seed)
        made, nearest, real, asked, sheet = [], [], [], [], []
        for number, one in enumerate(portraits(args.things, photographs, generator)):
            with tempfile.TemporaryDirectory() as folder:
                one.save(Path(folder) / "picture.png", generator)
                guidance = Zero123(
                    Zero123.Config(
                        model=str(args.model),
                        image=str(Path(folder) / "picture.png"),
                        share=args.share,
                        azimuth=one.azimuth,
                        elevation=one.elevation,
                        distance=DISTANCE,
                        pose="elevation",
                    )
                )
            angles = around(one)
            made.append(sample(guidance, angles, args.steps, args.scale, args.seed + number))
            picture = guidance.picture
            shown = squared(over(picture, picture[..., 3], (1, 1, 1)), 64).expand(len(angles), -1, -1, -1)
            nearest.append(shown)
            real.append(one.truth(angles, args.share, generator))
            for azimuth, elevation in angles.tolist():
                text = caption(Single(one.kind), (one.colour,), None)
                asked.append(Question(text, one.kind, one.colour, None, sector(azimuth, elevation)))
            white = real[-1][:, :3] + 1 - real[-1][:, 3:]
            sheet.append(torch.cat((shown[:1], white, torch.ones_like(shown[:1]), made[-1])))
        truth = torch.cat(real)
        for group, images in ((f"{name}, sampled", torch.cat(made)), (f"{name}, the picture itself", torch.cat(nearest))):
            found = figures(judge, images, truth, asked)
            rows.append({"group": group, "images": len(asked), **{key: round(value, 3) for key, value in found.items()}})
            print(json.dumps(rows[-1]), flush=True)
        if args.sheet:
            args.sheet.mkdir(parents=True, exist_ok=True)
            save_grid(torch.cat(sheet).permute(0, 2, 3, 1), args.sheet / f"{name}.png", columns=2 * (1 + len(TURNS)))
    if args.card:
        how = (
            f"DDIM, {args.steps} steps, guidance {args.scale:g}, seed {args.seed}; {args.things} pictures a group, 5 views each."
        )
        write_card(args.card, rows, how, COLUMNS)


if __name__ == "__main__":
    main(sys.argv[1:])
