"""Trains the judge: a classifier of form, colour and view, on images of the world that the prior never sees.

Its seed differs from the prior's, and it sees what the prior has held out. Its images are blurred, noised, shifted and dimmed
at random, so that it judges generated and distilled images as well as rendered ones.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from captions import SECTORS
from data import FACING, Batch, World
from precision import fast_autocast
from rounds import FORMS
from torch import Tensor
from torch.nn import functional
from vae import schedule

from dfw_geometry.shapes import COLOURS, KINDS
from dfw_scorers.judge.network import Judge

SHAPELESS = frozenset(kind for kind, shape in KINDS.items() if shape.turned)
"""Kinds that look the same from every azimuth."""


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts, scales, blurs, noises and changes the contrast of each image at random: ``[B, 3, S, S]``."""
    count = len(images)

    def chance(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = chance(0.85, 1.25)
    theta[:, :, 2] = chance(-0.1, 0.1, 2)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    out = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    soft = functional.avg_pool2d(functional.pad(out, (2, 2, 2, 2), mode="replicate"), 5, 1)
    mild = functional.avg_pool2d(functional.pad(out, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pick = chance(0, 1, 1, 1, 1)
    out = torch.where(pick < 0.2, soft, torch.where(pick < 0.5, mild, out))
    level = chance(0, 0.08, 1, 1, 1) * (chance(0, 1, 1, 1, 1) < 0.5)
    out = out + level * torch.randn(images.shape, generator=generator)
    return (out * chance(0.85, 1.1, 1, 1, 1) + chance(-0.05, 0.05, 1, 1, 1)).clamp(0, 1)


def loss_of(judge: Judge, batch: Batch, images: Tensor) -> Tensor:
    """Returns the sum of the four cross entropies."""
    with fast_autocast():
        verdict = judge(images)
    turned = torch.tensor([f.name in SHAPELESS or f.name not in KINDS for f in FORMS])
    view = batch.view.masked_fill(turned[batch.form], -1)
    answers = (verdict.kind, verdict.colour, verdict.second, verdict.view)
    pairs = zip(answers, (batch.form, batch.colour, batch.second, view), strict=True)
    return torch.stack([functional.cross_entropy(logits, label, ignore_index=-1) for logits, label in pairs]).sum()


def main(argv: list[str]) -> None:
    """Trains and writes the judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of rounds (tools/prior/rounds.py)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=1e9, help="time limit; the rate follows it")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--resume", action="store_true", help="start from the judge in --out")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    world = World(args.data, everything=True)
    views = [f"{sector} view" for sector in (*SECTORS, "overhead")]
    judge = Judge([form.name for form in FORMS], list(COLOURS), views, list(FACING))
    if args.resume:
        judge = Judge.load(args.out).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    start, shown, step, progress = time.monotonic(), 0.0, 0, 0.0
    while progress < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * schedule(int(progress * 10000), 10000, 300)
        batch = world.draw(args.batch, generator)
        loss = loss_of(judge, batch, spoil(batch.images, generator))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        shown = float(loss.detach()) if step == 0 else 0.98 * shown + 0.02 * float(loss.detach())
        step += 1
        progress = max(step / args.steps, (time.monotonic() - start) / (60 * args.minutes))
        if step % 100 == 0:
            print(f"judge {step} loss {shown:.3f} {time.monotonic() - start:.0f} s", flush=True)
    judge.save(args.out)


if __name__ == "__main__":
    main(sys.argv[1:])
