"""Measures how good an asset from one picture is: held-out things, against the true shape.

    python benchmarks/image_to_3d.py --out results/pictures                   # resumable: finished runs are kept
    python benchmarks/image_to_3d.py --out results/photographs --photographs  # other light, noise, JPEG, a rough mask

Each picture shows a pair of kind and colour that the model never saw, from at most 60 degrees beside the front and 0 to 30
degrees above the horizon. The run knows from where, because the shapes are compared without alignment. It prints for each thing:
volume IoU of the exported mesh with the true shape; PSNR of five other views against it, and that of the picture itself in
their place; the mean absolute error of the base colour in these views, against the true thing without light, where both are
opaque; whether the judge finds the right kind in the view from behind, and a back there if the thing has a front.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from quality import ROOT, cell_centres, colour_error, inside_mesh, seen_volume, verdict_of
from torch import Tensor

from dfw import CameraBatch, RenderOutput, cameras_at
from dfw.api import run
from dfw.export.pictures import save_grid
from dfw_geometry.sdf_scene import SdfScene
from dfw_geometry.shapes import KINDS, Scene, Single
from dfw_scorers.judge.network import Judge

sys.path.insert(0, str(ROOT / "tools" / "prior"))
from captions import noun
from evaluate_novel import around, portraits, psnr
from portraits import DISTANCE, FOVY, Portrait

TURN = 120.0
"""Range of the pictures' azimuths around the front, degrees."""
GRID, HALF = 80, 1.25
"""Cells a side, and half the side in world units, of the grid on which volumes are compared."""
BACKS = torch.tensor([3, 4, 5])
"""The judge's three sectors that show a back."""


@dataclass(frozen=True)
class Score:
    """One run's figures."""

    thing: str
    """Colour and kind."""
    iou: float
    """Volume IoU with the true shape."""
    psnr: float
    """Mean PSNR of the other views, dB."""
    nearest: float
    """The same of the picture in their place."""
    back_kind: bool
    """Whether the judge sees the right kind from behind."""
    back: bool | None
    """Whether it sees a back there; none for things without a front."""
    seconds: float
    """Wall time of the run."""
    colour: float = math.nan
    """Error of the base colour; not a number in records that are older than this column."""


@dataclass(frozen=True)
class Placed(Scene):
    """The true thing of a portrait, where the picture's framing with `share` puts it."""

    portrait: Portrait
    share: float

    def distance(self, points: Tensor) -> Tensor:
        """Returns the signed distance, in the units of the true shape's own world."""
        return super().distance(self._placed(points))

    def colour(self, points: Tensor) -> Tensor:
        """Returns the colours."""
        return super().colour(self._placed(points))

    def _placed(self, points: Tensor) -> Tensor:
        return self.portrait.placed(points.reshape(-1, 3), self.share).view_as(points)


def unlit(portrait: Portrait, share: float, cameras: CameraBatch) -> RenderOutput:
    """Returns views of the true thing without light."""
    truth = SdfScene(SdfScene.Config(shape=noun(portrait.kind, portrait.colour)))
    truth.scene = Placed(truth.scene.form, truth.scene.colours, portrait, share)
    return seen_volume(truth, cameras)


def over_white(layers: Tensor) -> Tensor:
    """Returns images ``[B, 3, H, W]`` of colours multiplied by their coverage, ``[B, 4, H, W]``."""
    return layers[:, :3] + 1 - layers[:, 3:]


def overlap_with(glb: Path, portrait: Portrait, share: float) -> float:
    """Returns the intersection over union of volumes. The true shape is placed as the picture's framing says."""
    points = cell_centres(GRID) * HALF
    made, real = inside_mesh(glb, points), Single(portrait.kind).distance(portrait.placed(points, share)) < 0
    return int((made & real).sum()) / max(int((made | real).sum()), 1)


def measure(judge: Judge, portrait: Portrait, config: str, overrides: list[str], out: Path, seed: int) -> Score:
    """Runs one picture. Returns its figures, and writes a sheet: the picture, then true views above those of the result."""
    name = f"{portrait.colour}-{portrait.kind}"
    generator = torch.Generator().manual_seed(seed)
    picture = out / f"{name}.png"
    portrait.save(picture, generator)
    where = [f"view_sets.reference.azimuth={portrait.azimuth:.2f}", f"view_sets.reference.elevation={portrait.elevation:.2f}"]
    words = f"prompt={noun(portrait.kind, portrait.colour)}"
    started = time.monotonic()
    result = run(config, f"image={picture}", words, *where, f"output={out / 'runs'}", *overrides)
    seconds = time.monotonic() - started
    reference = result.config.view_sets["reference"]
    share = float(reference.model_dump()["share"])
    behind = torch.tensor([[portrait.azimuth, 15.0], [180.0, 15.0]])
    angles = torch.cat((behind, around(portrait)))
    full = torch.ones(len(angles))
    cameras = cameras_at(*angles.T, DISTANCE * full, FOVY * full, 64, 64)
    seen = result.scene.render(cameras)
    images, plain = seen.colours.permute(0, 3, 1, 2), unlit(portrait, share, cameras)
    truth = over_white(portrait.truth(angles, share, generator))
    shown = over_white(portrait.truth(portrait.own, share, generator))
    save_grid(torch.cat((shown, truth, shown, images)).permute(0, 2, 3, 1), out / f"{name}-sheet.png", columns=1 + len(angles))
    verdict = verdict_of(judge, images[1:2].permute(0, 2, 3, 1))
    front = not KINDS[portrait.kind].turned
    return Score(
        name,
        overlap_with(result.artifacts["glb"], portrait, share),
        float(psnr(images[2:], truth[2:]).mean()),
        float(psnr(shown.expand_as(truth[2:]), truth[2:]).mean()),
        judge.kinds[int(verdict.kind.argmax())] == portrait.kind,
        bool(verdict.view[0].exp()[BACKS].sum() > 0.5) if front else None,
        seconds,
        colour_error(*(one[2:] for one in (seen.colours, seen.render.opacity, plain.colour, plain.opacity))),
    )


def table(scores: list[Score]) -> str:
    """Returns the figures as a Markdown table, with their means."""
    lines = ["| thing | IoU | PSNR | the picture's | colour | kind from behind | a back | seconds |", "|---" * 8 + "|"]

    def row(name: str, group: list[Score]) -> str:
        backs = [one.back for one in group if one.back is not None]
        shares = [f"{fmean(one.back_kind for one in group):.0%}", f"{fmean(backs):.0%}" if backs else ""]
        numbers = [
            f"{fmean(one.iou for one in group):.2f}",
            *(f"{fmean(getattr(one, n) for one in group):.1f}" for n in ("psnr", "nearest")),
            f"{fmean(one.colour for one in group):.3f}",
        ]
        return f"| {' | '.join([name, *numbers, *shares, f'{fmean(one.seconds for one in group):.0f}'])} |"

    return "\n".join([*lines, *(row(one.thing, [one]) for one in scores), row(f"**all** ({len(scores)})", scores)])


def main() -> None:
    """Makes the missing runs under --out and prints the table of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and figures; finished runs are not made again")
    parser.add_argument("--config", default=str(ROOT / "configs" / "zero123.yaml"))
    parser.add_argument("--things", type=int, default=24, help="only the first N of 24")
    parser.add_argument("--photographs", action="store_true", help="pictures with the faults of photographs")
    parser.add_argument("--seed", type=int, default=7, help="of the pictures")
    parser.add_argument("overrides", nargs="*", help="config overrides, as for dfw run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    judge, scores = Judge.load(), []
    every = portraits(24, args.photographs, torch.Generator().manual_seed(args.seed), TURN)
    # neighbours in the list are alike, so that the first N are spread
    order = [start + step for start in range(3) for step in range(0, 24, 3)]
    for number in order[: args.things]:
        portrait = every[number]
        path = args.out / f"{portrait.colour}-{portrait.kind}.json"
        if not path.is_file():
            score = measure(judge, portrait, args.config, args.overrides, args.out, args.seed + number)
            path.write_text(json.dumps(asdict(score), indent=1), encoding="utf-8")
            print(json.dumps(asdict(score)), flush=True)
        scores.append(Score(**json.loads(path.read_text(encoding="utf-8"))))
    print(table(scores))


if __name__ == "__main__":
    main()
