"""Makes contact sheets: of the prompts that benchmarks/quality.py has run, or of methods, a row for each.

    python benchmarks/gallery.py --results results/quality --out docs/images/gallery.png
    python benchmarks/gallery.py --row magic3d RUN RUN RUN --row textmesh RUN RUN RUN --out docs/images/methods.png

The first shows two views of each run over its prompt. The second shows the exported GLB of each run (of its last stage) from two
sides, lit from the camera as in `asset.py`. Prompts stand over the columns. `-` leaves a place empty.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import trimesh
import yaml
from asset import seen_mesh
from PIL import Image, ImageDraw

from dfw import orbit

SIDE = 128
TEXT = 18
VIEWS = (1, 5)  # of eight: front left, back right
LABEL = 110  # pixels of a method's name


def cell(record: Path) -> Image.Image:
    """Draws two of a run's eight renders side by side, over the prompt."""
    score = json.loads(record.read_text())
    pictures = torch.load(record.with_suffix(".pt"), weights_only=True)[list(VIEWS)].numpy()
    row = np.concatenate(list((pictures * 255).round().astype(np.uint8)), axis=1)
    sheet = Image.new("RGB", (2 * SIDE, SIDE + TEXT), "white")
    sheet.paste(Image.fromarray(row).resize((2 * SIDE, SIDE), Image.Resampling.BICUBIC), (0, 0))
    ImageDraw.Draw(sheet).text((SIDE, SIDE + TEXT // 2), score["prompt"], fill="black", anchor="mm")
    return sheet


def glb_of(run: Path) -> Path:
    """Returns the exported GLB of a run, or of the last of its stages that has one."""
    found = sorted(run.glob("**/export/object.glb"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(f"{run}: holds no export/object.glb; give the directory of a finished run")
    return found[-1]


def asset_cell(run: Path) -> Image.Image:
    """Draws the GLB of a run from two sides."""
    shape = trimesh.load(glb_of(run), force="mesh", process=False)
    seen = seen_mesh(shape, orbit(8, 15.0, 3.0, 40.0, 2 * SIDE, 2 * SIDE).select(torch.tensor(VIEWS)))
    row = np.concatenate(list((seen.picture.numpy() * 255).round().astype(np.uint8)), axis=1)
    return Image.fromarray(row).resize((2 * SIDE, SIDE), Image.Resampling.BOX)


def prompt_of(run: Path) -> str:
    """Returns the prompt of a run or of its first stage."""
    found = sorted(run.glob("**/resolved.yaml"), key=lambda path: len(path.parts))
    if not found:
        raise SystemExit(f"{run}: holds no resolved.yaml; give the directory of a finished run")
    return str(yaml.safe_load(found[0].read_text())["prompt"])


def methods_sheet(rows: list[list[str]]) -> Image.Image:
    """Draws a row for each method: its name, and the GLBs of its runs."""
    columns = max(len(row) - 1 for row in rows)
    sheet = Image.new("RGB", (LABEL + 2 * SIDE * columns, TEXT + SIDE * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column in range(columns):
        run = next(row[column + 1] for row in rows if len(row) > column + 1 and row[column + 1] != "-")
        draw.text((LABEL + SIDE * (2 * column + 1), TEXT // 2), prompt_of(Path(run)), fill="black", anchor="mm")
    for index, (name, *runs) in enumerate(rows):
        draw.text((4, TEXT + SIDE * index + SIDE // 2), name, fill="black", anchor="lm")
        for column, run in enumerate(runs):
            if run != "-":
                sheet.paste(asset_cell(Path(run)), (LABEL + 2 * SIDE * column, TEXT + SIDE * index))
    return sheet.quantize(256)  # a third of the size


def prompts_sheet(results: Path, seed: int, columns: int) -> Image.Image:
    """Draws the runs of one seed in `columns`."""
    cells = [cell(record) for record in sorted(results.glob(f"*-{seed}.json"))]
    width, height = cells[0].size
    sheet = Image.new("RGB", (width * columns, height * -(-len(cells) // columns)), "white")
    for index, picture in enumerate(cells):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet


def main() -> None:
    """Writes one PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--results", type=Path, help="folder of quality.py")
    what.add_argument("--row", nargs="+", action="append", metavar="NAME RUN", help="a method and its runs; can be given again")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="which of the seeds that quality.py ran")
    parser.add_argument("--columns", type=int, default=4)
    args = parser.parse_args()
    sheet = methods_sheet(args.row) if args.row else prompts_sheet(args.results, args.seed, args.columns)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
