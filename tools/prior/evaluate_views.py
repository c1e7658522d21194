"""Samples scenes of four views: is each view what was asked, and do the views of a scene show one solid?

    python tools/prior/evaluate_views.py OUT/model --card OUT/model/README.md

The same captions and cameras are asked of the shipped model of single pictures, each view by itself. "kind", "colour" and the two
"view" columns are the judge's, as in `evaluate.py`. "outline" is the intersection over union of each view's silhouette with that
of the true shape. "hull" is the same with the silhouette of the visual hull, the largest solid that fits all four silhouettes: 1
where the views can show one solid. "hue" says how far the object's mean colour in a view is from its scene's: root mean square.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from buffers import render
from captions import caption, sector
from evaluate import Question, score, write_card
from heldout import HELD_OUT, allowed_colours
from torch import Tensor

import dfw
from dfw import CameraBatch, Conditioning, Guidance, PromptBatch, Prompter, cameras_at
from dfw.export.pictures import save_grid
from dfw.prior.sample import ddim
from dfw.runs.prompt_table import PromptTable
from dfw_geometry.shapes import COLOURS, KINDS, Single
from dfw_guidance.mvdream import MVDream
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_scorers.judge.network import Judge

VIEWS = 4
GRID = 48
"""Cells a side of the visual hull's grid."""
APART = 0.12
"""A pixel shows the object if a channel differs by more from the background, the median of the picture's edge."""
COLUMNS = ("group", "images", "kind", "colour", "both", "view", "view within 45", "outline", "hull", "hue")


def scenes(per_kind: int, held_out: bool, generator: torch.Generator) -> tuple[list[Question], CameraBatch]:
    """Draws captions, and a ring of four views for each, at elevations from 0 to 30 degrees. One question for each view."""
    found: list[Question] = []
    turns, heights = [], []
    for kind in KINDS:
        colours = [c for c in COLOURS if (c, kind) in HELD_OUT] if held_out else allowed_colours(kind)
        for _ in range(per_kind):
            colour = colours[int(torch.randint(len(colours), (), generator=generator))]
            first, height = (torch.rand(2, generator=generator) * torch.tensor([360.0, 30.0])).tolist()
            for view in range(VIEWS):
                azimuth = (first + 90.0 * view) % 360.0
                found.append(Question(caption(Single(kind), (colour,), None), kind, colour, None, sector(azimuth, height)))
                turns.append(azimuth)
                heights.append(height)
    full = torch.ones(len(turns))
    return found, cameras_at(torch.tensor(turns), torch.tensor(heights), 3 * full, 40 * full, 64, 64).in_groups(VIEWS)


@torch.no_grad()
def sample(
    guidance: Guidance, group: list[Question], cameras: CameraBatch, steps: int, scale: float, seed: int, batch: int = 32
) -> Tensor:
    """Samples images ``[B, 3, 64, 64]`` in [0, 1] by DDIM, with the words of the directional prompter."""
    prompter = dfw.build("prompter", "dreamfw/directional", mode="interpolated", sectors=8, angles=4)
    assert isinstance(prompter, Prompter)
    rows = []
    for start in range(0, len(group), VIEWS):
        seen = cameras.select(slice(start, start + VIEWS))
        rows.append(PromptTable(guidance, prompter, group[start].text).batch(seen))
    generator, parts = torch.Generator().manual_seed(seed), []
    for start in range(0, len(rows), batch // VIEWS):
        some = rows[start : start + batch // VIEWS]
        positive, negative = (Conditioning.cat([getattr(row, name) for row in some]) for name in ("positive", "negative"))
        parts.append(ddim(guidance, PromptBatch(positive, negative), steps, scale, generator))
    return torch.cat(parts)


def silhouettes(images: Tensor) -> Tensor:
    """Returns which pixels ``[B, H, W]`` of images ``[B, 3, H, W]`` differ from the background, the median of the edge."""
    edge = torch.cat((images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]), 2)
    return (images - edge.median(2).values[..., None, None]).abs().amax(1) > APART


def true_silhouettes(group: list[Question], cameras: CameraBatch) -> Tensor:
    """Returns the silhouettes ``[B, H, W]`` of the true shapes."""
    found = []
    for row, question in enumerate(group):
        seen = {"azimuth": cameras.azimuth, "elevation": cameras.elevation, "fovy": cameras.fov_y, "distance": cameras.distance}
        buffers = render(Single(question.kind), {name: values[row : row + 1] for name, values in seen.items()})
        found.append(buffers[0, 5] > 127)
    return torch.stack(found)


def hulls(masks: Tensor, cameras: CameraBatch) -> Tensor:
    """Returns the silhouettes ``[B, H, W]`` of each scene's visual hull, on a grid of `GRID` cells a side."""
    axis = (torch.arange(GRID) + 0.5) * (2 / GRID) - 1
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    side = masks.shape[-1]
    pose = cameras.camera_to_world
    local = (cells[None] - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    half = torch.tan(torch.deg2rad(cameras.fov_y) / 2)[:, None, None]
    place = local[..., :2] / -local[..., 2:] / half * torch.tensor([1.0, -1.0])
    pixel = ((place + 1) * (side / 2)).long().clamp(0, side - 1)
    number = pixel[..., 1] * side + pixel[..., 0]
    inside = masks.flatten(1).gather(1, number).view(-1, VIEWS, len(cells)).all(1).repeat_interleave(VIEWS, 0)
    shown = torch.zeros(len(masks), side * side, dtype=torch.long)
    return shown.scatter_reduce(1, number, inside.long(), "amax").view_as(masks) > 0


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Returns the intersection over union ``[B]`` of masks ``[B, H, W]``."""
    return (one & other).sum((1, 2)) / (one | other).sum((1, 2)).clamp_min(1)


def agreement(images: Tensor, group: list[Question], cameras: CameraBatch) -> dict[str, float]:
    """Returns the figures "outline", "hull" and "hue"."""
    masks = silhouettes(images)
    mean = (images * masks[:, None]).sum((2, 3)) / masks.sum((1, 2)).clamp_min(1)[:, None]
    apart = mean.view(-1, VIEWS, 3) - mean.view(-1, VIEWS, 3).mean(1, keepdim=True)
    return {
        "outline": float(overlap(masks, true_silhouettes(group, cameras)).mean()),
        "hull": float(overlap(masks, hulls(masks, cameras)).mean()),
        "hue": float(apart.square().mean().sqrt()),
    }


def main(argv: list[str]) -> None:
    """Prints the figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--per-kind", type=int, default=2, help="scenes of each kind and group")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    parser.add_argument("--card", type=Path, help="model card whose table of figures to replace")
    args = parser.parse_args(argv)
    judge, generator = Judge.load(), torch.Generator().manual_seed(args.seed)
    models: dict[str, Guidance] = {
        "four views together": MVDream(MVDream.Config(model=str(args.model))),
        "each view by itself": StableDiffusion(StableDiffusion.Config()),
    }
    rows: list[dict[str, object]] = []
    for group, held_out in (("seen", False), ("held out", True)):
        asked, cameras = scenes(args.per_kind, held_out, generator)
        for name, model in models.items():
            images = sample(model, asked, cameras, args.steps, args.scale, args.seed)
            figures = {**score(judge, images, asked), **agreement(images, asked, cameras)}
            rows.append({"group": f"{group}, {name}", "images": len(asked), **{k: round(v, 3) for k, v in figures.items()}})
            print(json.dumps(rows[-1]), flush=True)
            if args.sheet:
                args.sheet.mkdir(parents=True, exist_ok=True)
                save_grid(images.permute(0, 2, 3, 1), args.sheet / f"{group}, {name}.png".replace(" ", "_"), columns=16)
    if args.card:
        how = f"DDIM, {args.steps} steps, guidance {args.scale:g}, seed {args.seed}; the words of the directional prompter."
        write_card(args.card, rows, how, COLUMNS)


if __name__ == "__main__":
    main(sys.argv[1:])
