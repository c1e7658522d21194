"""The README's picture: two views of each prompt that benchmarks/quality.py has run, with the prompt underneath.

python benchmarks/gallery.py --results results/quality --out docs/images/gallery.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from dfw.finish import render_views, to_images, views
from dfw.runner import reopen
from dfw.runs import RunDirectory

SIDE = 144
TEXT = 18
ELEVATION = 20.0
VIEWS = (1, 5)  # of eight: front left, back right


def cell(record: Path) -> Image.Image:
    """Two renders side by side over the prompt."""
    score = json.loads(record.read_text())
    _, trainer = reopen(RunDirectory.open(Path(score["directory"])))
    cameras = views(trainer, 8, SIDE, ELEVATION).select(torch.tensor(VIEWS))
    pictures = to_images(trainer, render_views(trainer, cameras)).numpy()
    row = np.concatenate(list((pictures * 255).round().astype(np.uint8)), axis=1)
    sheet = Image.new("RGB", (row.shape[1], SIDE + TEXT), "white")
    sheet.paste(Image.fromarray(row), (0, 0))
    ImageDraw.Draw(sheet).text((row.shape[1] // 2, SIDE + TEXT // 2), score["prompt"], fill="black", anchor="mm")
    return sheet


def main() -> None:
    """Writes one PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=4)
    args = parser.parse_args()
    cells = [cell(record) for record in sorted(args.results.glob("*.json"))]
    rows = -(-len(cells) // args.columns)
    width, height = cells[0].size
    sheet = Image.new("RGB", (width * args.columns, height * rows), "white")
    for index, picture in enumerate(cells):
        sheet.paste(picture, (index % args.columns * width, index // args.columns * height))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
