"""Samples pictures for the depth of true shapes: does each show that shape, and still what its caption says?

    python tools/prior/evaluate_control.py OUT/model --card OUT/model/README.md

The same captions and the same noise are asked of the prior without a picture. "kind", "colour" and the "view" columns are the
judge's, as in `evaluate.py`. "outline" is the intersection over union of the silhouettes of sample and shape. "PSNR" is
that of the pixels that the shape covers, against the true colours in the mean of several lights: parts must be where they are.
The first row of each group has true pictures, each in one light, as training shows them. Even light can be above it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from buffers import render
from captions import caption, sector
from compose import backgrounds
from controlnet import depths
from data import RGB
from evaluate import Question, score, write_card
from evaluate_views import overlap, silhouettes
from heldout import HELD_OUT, allowed_colours
from portraits import DISTANCE, FOVY, LIGHTS, Portrait
from torch import Tensor

import dfw
from dfw import Conditioning, Guidance, PromptBatch, Prompter, cameras_at
from dfw.export.pictures import save_grid
from dfw.prior.sample import ddim
from dfw.runs.prompt_table import PromptTable
from dfw_geometry.shapes import COLOURS, KINDS, Single
from dfw_guidance.controlnet import ControlNet
from dfw_scorers.judge.network import Judge

GROUPS = {"seen": (False, True), "held out": (True, True), "held out, no view words": (True, False)}
"""Whether the combinations were held out, and whether the captions say the view."""
COLUMNS = ("group", "images", "outline", "PSNR", "kind", "colour", "both", "view", "view within 45")


def things(per_kind: int, held_out: bool, generator: torch.Generator) -> list[Portrait]:
    """Draws kinds in colours that training showed or held out, from azimuths all around and elevations from -10 to 60 degrees."""
    found = []
    for kind in KINDS:
        colours = [c for c in COLOURS if (c, kind) in HELD_OUT] if held_out else allowed_colours(kind)
        for _ in range(per_kind):
            colour = colours[int(torch.randint(len(colours), (), generator=generator))]
            azimuth, height = (torch.rand(2, generator=generator) * torch.tensor([360.0, 70.0])).tolist()
            found.append(Portrait(kind, colour, azimuth, height - 10.0))
    return found


def conditions(asked: list[Portrait]) -> Tensor:
    """Returns the depth pictures ``[B, 3, 64, 64]`` of true shapes."""
    found = []
    for one in asked:
        azimuth, elevation = one.own.T
        cameras = {
            "azimuth": azimuth,
            "elevation": elevation,
            "fovy": torch.tensor([FOVY]),
            "distance": torch.tensor([DISTANCE]),
        }
        found.append(depths(render(Single(one.kind), cameras), cameras))
    return torch.cat(found)


def prompts(guidance: Guidance, asked: list[Portrait], spoken: bool) -> PromptBatch:
    """Returns the captions' encodings: with the words of the directional prompter if ``spoken``, else without view words."""
    prompter = dfw.build("prompter", "dreamfw/directional", mode="interpolated", sectors=8, angles=4)
    assert isinstance(prompter, Prompter)
    if not spoken:
        texts = [caption(Single(one.kind), (one.colour,), None) for one in asked]
        return PromptBatch(guidance.encode_text(texts), guidance.encode_text([""] * len(texts)))
    rows = []
    for one in asked:
        full = torch.ones(1)
        seen = cameras_at(*one.own.T, DISTANCE * full, FOVY * full, 64, 64)
        rows.append(PromptTable(guidance, prompter, caption(Single(one.kind), (one.colour,), None)).batch(seen))
    return PromptBatch(*(Conditioning.cat([getattr(row, name) for row in rows]) for name in ("positive", "negative")))


def inside(images: Tensor, truth: Tensor) -> Tensor:
    """Returns the PSNR ``[B]``, dB, of ``images`` ``[B, 3, H, W]`` where ``truth`` ``[B, 4, H, W]`` covers at least a half."""
    solid = truth[:, 3] > 0.5
    colour = truth[:, :3] / truth[:, 3:].clamp_min(0.5)
    error = (images - colour).square().mean(1)
    return -10 * ((error * solid).sum((1, 2)) / solid.sum((1, 2)).clamp_min(1)).clamp_min(1e-8).log10()


def pictures(asked: list[Portrait], generator: torch.Generator) -> Tensor:
    """Returns true pictures ``[B, 3, 64, 64]``, each in one light on a background that training could draw."""
    layers = torch.cat([one.shown(one.own, 64, generator) for one in asked])
    own = RGB[[list(COLOURS).index(one.colour) for one in asked]]
    return (layers[:, :3] + (1 - layers[:, 3:]) * backgrounds(own, 64, generator)).clamp(0, 1)


def main(argv: list[str]) -> None:
    """Prints the figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--per-kind", type=int, default=2, help="pictures of each kind and group")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--control-scale", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scales", type=float, nargs="+", default=[5.0, 2.5], help="guidance scales of the text")
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets: depth, true, with depth, without")
    parser.add_argument("--card", type=Path, help="model card whose table of figures to replace")
    args = parser.parse_args(argv)
    judge, generator = Judge.load(), torch.Generator().manual_seed(args.seed)
    model = ControlNet(
        ControlNet.Config(model="embedded", controlnet=str(args.model), control="depth", control_scale=args.control_scale)
    )
    rows: list[dict[str, object]] = []
    for group in args.groups:
        held_out, spoken = GROUPS[group]
        asked = things(args.per_kind, held_out, generator)
        shapes, prompt = conditions(asked), prompts(model, asked, spoken)
        truth = torch.cat([one.shown(one.own, 64, generator, LIGHTS) for one in asked])
        questions = [
            Question("", one.kind, one.colour, None, sector(one.azimuth, one.elevation)) for one in asked
        ]  # the judge does not read texts
        made = {"true pictures": pictures(asked, generator)}
        for scale in args.scales:
            for name, control in (("with depth", shapes), ("without", None)):
                noise = torch.Generator().manual_seed(args.seed)
                made[f"{name}, scale {scale:g}"] = ddim(model, prompt.with_control(control), args.steps, scale, noise)
        for name, images in made.items():
            figures = {
                "outline": float(overlap(silhouettes(images), truth[:, 3] > 0.5).mean()),
                "PSNR": float(inside(images, truth).mean()),
                **score(judge, images, questions),
            }
            rows.append({"group": f"{group}, {name}", "images": len(asked), **{k: round(v, 3) for k, v in figures.items()}})
            print(json.dumps(rows[-1]), flush=True)
        if args.sheet:
            args.sheet.mkdir(parents=True, exist_ok=True)
            sheet = torch.stack((shapes, *made.values()), 1).flatten(0, 1).permute(0, 2, 3, 1)
            save_grid(sheet, args.sheet / f"{group}.png".replace(" ", "_"), columns=4 * (2 + 2 * len(args.scales)))
    if args.card:
        how = f"DDIM, {args.steps} steps, control scale {args.control_scale:g}, seed {args.seed}; `scale` is the text's guidance."
        write_card(args.card, rows, how, COLUMNS)


if __name__ == "__main__":
    main(sys.argv[1:])
