"""Makes the README's picture: two views of each prompt that benchmarks/quality.py has run, over the prompt.

python benchmarks/gallery.py --results results/quality --out docs/images/gallery.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

SIDE = 128
TEXT = 18
VIEWS = (1, 5)  # of eight: front left, back right


def cell(record: Path) -> Image.Image:
    """Draws two of a run's eight renders side by side, over the prompt."""
    score = json.loads(record.read_text())
    pictures = torch.load(record.with_suffix(".pt"), weights_only=True)[list(VIEWS)].numpy()
    row = np.concatenate(list((pictures * 255).round().astype(np.uint8)), axis=1)
    sheet = Image.new("RGB", (2 * SIDE, SIDE + TEXT), "white")
    sheet.paste(Image.fromarray(row).resize((2 * SIDE, SIDE), Image.Resampling.BICUBIC), (0, 0))
    ImageDraw.Draw(sheet).text((SIDE, SIDE + TEXT // 2), score["prompt"], fill="black", anchor="mm")
    return sheet


def main() -> None:
    """Writes one PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="which of the seeds that quality.py ran")
    parser.add_argument("--columns", type=int, default=4)
    args = parser.parse_args()
    cells = [cell(record) for record in sorted(args.results.glob(f"*-{args.seed}.json"))]
    rows = -(-len(cells) // args.columns)
    width, height = cells[0].size
    sheet = Image.new("RGB", (width * args.columns, height * rows), "white")
    for index, picture in enumerate(cells):
        sheet.paste(picture, (index % args.columns * width, index // args.columns * height))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
