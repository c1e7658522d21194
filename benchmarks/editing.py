"""Measures edits of finished runs: whether the new words are there, and whether the rest stayed.

    pip install --no-deps examples/extensions/dreamfw-editing
    python benchmarks/editing.py --out results/editing      # finished runs are kept

A default run makes each source. Each method then goes on from it with the new prompt, by the same number of steps. `sds` is plain
score distillation, with the settings of the edits. The columns, from 8 views around the object:
- judge: the share of views for which the judge of `dfw evaluate` ranks the new prompt above the old one;
- IoU: of the matter of edit and source, on a 64^3 grid;
- PSNR: between source and edit, on what should not change. These are the pixels where an object is seen in the true pictures of
  both prompts and these agree. The world that the prior was trained on has true pictures of both prompts;
- error: mean absolute colour error against the true picture of the new prompt, on the pixels that are opaque in both; in brackets
  that of the source against its own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from quality import VIEWS, cell_centres, colour_error, likelihood, seen_volume, verdict_of
from torch import Tensor

import dfw
from dfw import DensityField
from dfw_geometry.sdf_scene import SdfScene
from dfw_scorers.judge.network import Judge

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "examples" / "extensions" / "dreamfw-editing" / "configs"
EDITS = (
    ("a red mushroom", "a blue mushroom"),
    ("a blue car", "a red car"),
    ("a yellow duck", "a green duck"),
    ("a red cube", "a yellow cone on a red cube"),
)
"""Prompt of the source and of the edit. The last one is a hat."""
METHODS: dict[str, tuple[str, ...]] = {
    "sds": ("losses.edit={type: sds, guidance_scale: 7.5, t_min: 0.02, t_max: 0.8}",),
    "edit": ("losses.edit.source_prompt={source}",),
    "pds": ("losses.edit.source_prompt={source}",),
    "collaborative": ("losses.edit.source_prompt={source}",),
    "in2n": (),
}
"""Configuration in the extension, or for `sds` that of `edit` -> what is overridden."""
LEVEL = 25.0
"""Density, 1/unit, above which a point counts as matter: a quarter of what the default run's solid parts have."""
AGREE = 0.05
"""Largest difference of two true colours that count as the same."""


@dataclass(frozen=True)
class Figures:
    """One edit's figures; the module's docstring says what they are."""

    judge: float
    iou: float
    psnr: float
    """Decibels; not a number where nothing should stay."""
    error: float
    source_error: float


def matter(run: dfw.Run) -> Tensor:
    """Returns whether each of 64^3 points of the cube [-1, 1]^3 is inside the scene."""
    geometry = run.scene.geometry
    if not isinstance(geometry, DensityField):
        raise SystemExit(f"{run.directory}: its geometry is not a density field")
    with torch.no_grad():
        return geometry.density(cell_centres(64)) > LEVEL


def measure(judge: Judge, source: dfw.Run, edited: dfw.Run) -> Figures:
    """Returns the figures of one edit."""
    old, new = source.config.prompt, edited.config.prompt
    before, after = (one.scene.render(one.scene.views(VIEWS, 64, 15.0)) for one in (source, edited))
    true_old, true_new = (seen_volume(SdfScene(SdfScene.Config(shape=text)), after.cameras) for text in (old, new))
    verdict = verdict_of(judge, after.colours)
    found = likelihood(judge, verdict, new) > likelihood(judge, verdict, old)
    both = (true_old.opacity > 0.9) & (true_new.opacity > 0.9)
    stays = both & ((true_old.colour - true_new.colour).abs().amax(-1) < AGREE)
    apart = (before.colours - after.colours)[stays].square()
    first, second = matter(source), matter(edited)
    return Figures(
        float(found.float().mean()),
        int((first & second).sum()) / max(int((first | second).sum()), 1),
        -10 * math.log10(float(apart.mean())) if apart.numel() else math.nan,
        colour_error(after.colours, after.render.opacity, true_new.colour, true_new.opacity),
        colour_error(before.colours, before.render.opacity, true_old.colour, true_old.opacity),
    )


def made(out: Path, name: str, config: str, *overrides: str) -> dfw.Run:
    """Makes a run, or opens the one that `out` holds under this name."""
    kept = out / f"{name}.txt"
    if kept.is_file():
        return dfw.open(kept.read_text(encoding="utf-8"), device="cpu")
    run = dfw.run(config, *overrides, f"output={out / 'runs'}", "device=cpu", listeners=[])
    if run.status != "finished":
        raise SystemExit(f"{run.directory}: the run has not finished ({run.status})")
    kept.write_text(str(run.directory), encoding="utf-8")
    return run


def row(name: str, old: str, new: str, figures: Figures) -> str:
    """Returns a line of the table."""
    numbers = f"{figures.judge:.2f} | {figures.iou:.2f} | {figures.psnr:.1f} | {figures.error:.3f} ({figures.source_error:.3f})"
    return f"| {old} -> {new} | `{name}` | {numbers} |"


def main() -> None:
    """Makes the missing runs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and figures; finished runs are not made again")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--edits", type=int, default=len(EDITS), help="only the first N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="config overrides of the edits, as for dfw run")
    asked = parser.parse_args()
    if find_spec("dreamfw_editing") is None:  # before the sources, which take minutes
        parser.error(f"the edits need the extension dreamfw-editing; write: pip install --no-deps {CONFIGS.parent}")
    asked.out.mkdir(parents=True, exist_ok=True)
    judge, seed = Judge.load(), f"seed={asked.seed}"
    table: dict[str, list[Figures]] = {}
    print("| edit | method | judge | IoU | PSNR, dB | error |\n|---|---|---|---|---|---|")
    for old, new in EDITS[: asked.edits]:
        slug = old.replace(" ", "-")
        source = made(asked.out, f"{slug}-source-{asked.seed}", str(ROOT / "configs" / "dreamfusion.yaml"), f"prompt={old}", seed)
        for name in asked.methods.split(","):
            options = [one.replace("{source}", old) for one in METHODS[name]]
            config = str(CONFIGS / f"{'edit' if name == 'sds' else name}.yaml")
            start: Any = (f"start.run={source.directory}", f"prompt={new}", seed, *options, *asked.overrides)
            found = measure(judge, source, made(asked.out, f"{slug}-{name}-{asked.seed}", config, *start))
            table.setdefault(name, []).append(found)
            print(row(name, old, new, found), flush=True)
            record = asked.out / f"{slug}-{name}-{asked.seed}.json"
            record.write_text(json.dumps(asdict(found)), encoding="utf-8")
    for name, rows in table.items():
        columns = zip(*(asdict(one).values() for one in rows), strict=True)
        means = [fmean(value for value in column if not math.isnan(value)) for column in columns]
        print(row(name, "mean", f"{len(rows)} edits", Figures(*means)))


if __name__ == "__main__":
    sys.exit(main())
