"""Paints grey meshes of true shapes, and measures whether the colours are those that the prompt asks for.

    python benchmarks/paint.py --out results/paint          # finished runs are kept

The columns, from 8 views around the object:
- colour: the share of views in which the judge of `dfw evaluate` sees the prompt's colour, and kind: its kind;
- error: mean absolute colour error (0 to 1) against the true object without light, on the pixels that are opaque in both. Wheels,
  windows and eyes have colours of their own, so they must be where they are;
- grey: the error of the mesh before the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean

import mcubes
import torch
import trimesh
from editing import made
from quality import VIEWS, cell_centres, colour_error, seen_volume, verdict_of

import dfw
from dfw.export.pictures import save_grid
from dfw_geometry.sdf_scene import SdfScene
from dfw_scorers.judge.network import Judge

ROOT = Path(__file__).parents[1]
PROMPTS = ("a blue car", "a yellow duck", "a red rocket", "a pink teapot", "a purple house", "an orange fish")
CONFIGS = ("paint", "paint-controlnet")
CELLS = 72
"""Cells a side of the grid that becomes the mesh."""


def grey_mesh(prompt: str, path: Path) -> Path:
    """Writes the surface of the true object, without colours, with z up and its front along x."""
    truth = SdfScene(SdfScene.Config(shape=prompt))
    values = -truth.distance(cell_centres(CELLS)).view(CELLS, CELLS, CELLS)
    vertices, faces = mcubes.marching_cubes(values.numpy(), 0.0)
    trimesh.Trimesh((vertices + 0.5) * (2 / CELLS) - 1, faces, process=False).export(path)
    return path


def measure(judge: Judge, prompt: str, run: dfw.Run) -> tuple[tuple[float, ...], torch.Tensor]:
    """Returns the figures of a painted mesh, which the module's docstring names, and its views."""
    seen = run.scene.render(run.scene.views(VIEWS, 64, 15.0))
    truth = seen_volume(SdfScene(SdfScene.Config(shape=prompt)), seen.cameras)
    verdict = verdict_of(judge, seen.colours)
    kind, colour = prompt.split()[2], prompt.split()[1]
    shares = (
        (verdict.colour.argmax(1) == judge.colours.index(colour)).float().mean(),
        (verdict.kind.argmax(1) == judge.kinds.index(kind)).float().mean(),
    )
    opacity = seen.render.opacity
    errors = (
        colour_error(one, opacity, truth.colour, truth.opacity) for one in (seen.colours, torch.full_like(seen.colours, 0.5))
    )
    return (*map(float, shares), *errors), seen.colours


def row(prompt: str, name: str, figures: tuple[float, ...]) -> str:
    """Returns a line of the table."""
    colour, kind, error, grey = figures
    return f"| {prompt} | `{name}` | {colour:.2f} | {kind:.2f} | {error:.3f} | {grey:.3f} |"


def main() -> None:
    """Makes the missing runs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for meshes, runs and sheets; finished runs are kept")
    parser.add_argument("--configs", default=",".join(CONFIGS), help="comma-separated")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="only the first N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="config overrides, as for dfw run")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    judge, table, sheet = Judge.load(), dict[str, list[tuple[float, ...]]](), []
    print("| prompt | config | colour | kind | error | grey |\n|---|---|---|---|---|---|")
    for prompt in PROMPTS[: asked.prompts]:
        slug = prompt.replace(" ", "-")
        mesh = grey_mesh(prompt, asked.out / f"{slug}.ply")
        for name in asked.configs.split(","):
            start = (f"start.mesh={mesh}", "start.radius=null", f"prompt={prompt}", f"seed={asked.seed}")
            run = made(asked.out, f"{slug}-{name}-{asked.seed}", str(ROOT / "configs" / f"{name}.yaml"), *start, *asked.overrides)
            figures, views = measure(judge, prompt, run)
            table.setdefault(name, []).append(figures)
            sheet.append(views)
            print(row(prompt, name, figures), flush=True)
    for name, rows in table.items():
        print(row(f"mean of {len(rows)}", name, tuple(fmean(column) for column in zip(*rows, strict=True))))
    save_grid(torch.cat(sheet), asked.out / "painted.png", columns=VIEWS)


if __name__ == "__main__":
    sys.exit(main())
