"""Renders rounds of buffers to disk. Every round holds some views of every form, so that training can start after one."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from buffers import render
from cameras import random_cameras, random_rings
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfw_geometry.shapes import KINDS, SOLIDS, Single, Stack

SINGLES = [Single(kind) for kind in KINDS]
STACKS = [Stack(top, bottom) for top in SOLIDS for bottom in SOLIDS if top != bottom]
FORMS: list[Single | Stack] = [*SINGLES, *STACKS]


def make_round(index: int, seed: int, views: int, stack_views: int, size: int = 64, rings: bool = False) -> dict[str, Tensor]:
    """Renders one round: ``buffers`` [N, 10, size, size] uint8, and per view ``form``, angles and distance [N].

    With ``rings`` four consecutive views are one ring, and the numbers of views are multiples of four.
    """
    generator = torch.Generator().manual_seed(seed * 1000 + index)
    pieces: dict[str, list[Tensor]] = {}
    for number, form in enumerate(FORMS):
        count = views if isinstance(form, Single) else stack_views
        cameras = (random_rings if rings else random_cameras)(count, generator)
        parts = [render(form, {k: v[i : i + 6] for k, v in cameras.items()}, size) for i in range(0, count, 6)]
        record = {"buffers": torch.cat(parts), "form": torch.full((count,), number), **cameras}
        for key, value in record.items():
            pieces.setdefault(key, []).append(value)
    return {key: torch.cat(values).contiguous() for key, values in pieces.items()}


def load_rounds(folder: Path) -> dict[str, Tensor]:
    """Loads all rounds in ``folder`` and joins them."""
    files = sorted(folder.glob("round_*.safetensors"))
    loaded = [load_file(str(path)) for path in files]
    return {key: torch.cat([part[key] for part in loaded]) for key in loaded[0]}


def main(argv: list[str]) -> None:
    """Writes the rounds that are missing in ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", type=int, default=96, help="views per kind and round")
    parser.add_argument("--stack-views", type=int, default=24, help="views per pair of solids and round")
    parser.add_argument("--rings", action="store_true", help="rings of four orthogonal views")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for index in range(args.rounds):
        path = args.out / f"round_{index:02d}.safetensors"
        if path.exists():
            continue
        start = time.monotonic()
        save_file(make_round(index, args.seed, args.views, args.stack_views, rings=args.rings), str(path.with_suffix(".part")))
        path.with_suffix(".part").rename(path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
