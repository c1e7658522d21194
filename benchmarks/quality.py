"""Measures how good the default run is: 24 prompts, judged against the true shapes and by an independent classifier.

    python benchmarks/quality.py --out results/quality --seeds 0,1 --processes 2    # resumable: finished runs are kept
    python benchmarks/quality.py --out results/flat --prompts 3 renderer.shading.mode=albedo    # a change of the configuration

It prints, per prompt and in the mean: volume IoU of the exported mesh with the true shape for each seed, without any alignment;
mean absolute colour error where both are opaque; R-precision, the share of 8 renders whose own prompt the judge ranks first of
all 24; and the share of two-faced results. The judge is that of `dfw evaluate` (`dfw_scorers.judge`). A second table holds the
exported GLB against the true object in pictures and normals (`asset.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import trimesh
from asset import Figures, measure_asset
from torch import Tensor
from winding import inside

from dfw import CameraBatch, RenderOutput
from dfw.api import run
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.plugins.registry import registry
from dfw_geometry.sdf_scene import SdfScene
from dfw_scorers.judge import answers
from dfw_scorers.judge.answers import two_faced
from dfw_scorers.judge.network import Judge, Verdict

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools" / "prior"))
from captions import noun  # noqa: E402
from heldout import HELD_OUT  # noqa: E402

SEEN = (
    "a red mushroom", "a blue car", "a yellow duck", "a green tree", "a white mug", "a brown chair", "a purple house",
    "a black lamp", "an orange fish", "a pink teapot", "a red rocket", "a blue boat", "a green bottle", "a yellow robot",
    "a pink snowman", "a red cube on a green cylinder",
)  # fmt: skip
VIEWS = 8
GRID = 64
ELEVATION = 15.0


@dataclass(frozen=True)
class Score:
    """One run's figures."""

    prompt: str
    """The prompt."""
    seed: int
    """The run's seed."""
    held_out: bool
    """Whether the prior never saw this pair of kind and colour."""
    iou: float
    """Volume IoU with the true shape."""
    colour_error: float
    """Mean absolute colour error in [0, 1]."""
    two_faced: bool
    """Whether the object has a front, and most views from behind show one."""
    seconds: float
    """Wall time of the run."""
    processor_seconds: float
    """Processor time of the run, on all cores."""
    directory: str
    """The run directory."""
    asset: Figures
    """Of the exported GLB."""


def prompts() -> list[tuple[str, bool]]:
    """Returns the 24 prompts: 16 seen pairs, and 8 pairs that the prior never saw."""
    held = sorted((kind, colour) for colour, kind in HELD_OUT)
    step = len(held) // 8
    chosen = [noun(kind, colour) for kind, colour in held[::step]][:8]
    seen = [text for text in SEEN if not any(text == noun(kind, colour) for kind, colour in held)]
    return [(text, False) for text in seen] + [(text, True) for text in chosen]


def cell_centres(count: int) -> Tensor:
    """Returns the centres (count^3, 3) of the cells of the cube [-1, 1]^3."""
    axis = (torch.arange(count) + 0.5) * (2 / count) - 1
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def inside_mesh(path: Path, points: Tensor) -> Tensor:
    """Returns whether each world point (N, 3) lies inside the GLB at `path`."""
    mesh = trimesh.load(path, force="mesh")
    y_up = np.asarray(mesh.vertices, dtype=np.float32)
    world = np.stack([y_up[:, 2], y_up[:, 0], y_up[:, 1]], axis=1)  # glTF's x, y, z are the world's y, z, x
    return inside(world, np.asarray(mesh.faces, dtype=np.int32), points)


def iou(glb: Path, truth: SdfScene) -> float:
    """Returns the intersection over union of volumes on a 64^3 grid. Nothing is aligned: a turned object scores low."""
    points = cell_centres(GRID)
    made, real = inside_mesh(glb, points), truth.distance(points) < 0
    union = int((made | real).sum())
    return int((made & real).sum()) / max(union, 1)


def colour_error(images: Tensor, opacity: Tensor, truth_images: Tensor, truth_opacity: Tensor) -> float:
    """Returns the mean absolute difference of colours (0 to 1) over the pixels that are opaque in both."""
    both = (opacity > 0.9) & (truth_opacity > 0.9)
    return float((images - truth_images).abs().mean(-1)[both].mean()) if bool(both.any()) else 1.0


def seen_volume(truth: SdfScene, cameras: CameraBatch) -> RenderOutput:
    """Returns the true object as the default run's renderer shows it, without light, whatever renderer the measured run has."""
    settings = load_config(ROOT / "configs" / "dreamfusion.yaml", [])
    with torch.no_grad():
        shown: RenderOutput = compose(settings, registry()).renderer().eval()(truth, cameras)
    return shown


def has_front(truth: SdfScene) -> bool:
    """Returns whether the true shape looks different from the front and from behind."""
    points = cell_centres(32)
    turned = points * torch.tensor([-1.0, -1.0, 1.0])
    return float(((truth.distance(points) < 0) ^ (truth.distance(turned) < 0)).float().mean()) > 0.004


def verdict_of(judge: Judge, images: Tensor) -> Verdict:
    """Returns the judge's log-probabilities for images (B, H, W, 3) in [0, 1]."""
    with torch.no_grad():
        return answers.verdict_of(judge, images.permute(0, 3, 1, 2))


def likelihood(judge: Judge, verdict: Verdict, text: str) -> Tensor:
    """Returns log p(form, colours of `text` | image), (B,)."""
    meaning = answers.read(text, judge)
    if meaning is None:
        raise ValueError(f"{text!r} is not of the judge's world")
    return answers.likelihood(judge, verdict, meaning)


def measure(
    judge: Judge, prompt: str, held_out: bool, config: str, overrides: Sequence[str], out: Path, listeners: Sequence[object] = ()
) -> tuple[Score, Tensor]:
    """Runs one prompt, with `listeners`. Returns its figures, and its 8 renders (8, 64, 64, 3) for retrieval."""
    started, busy = time.monotonic(), time.process_time()
    result = run(config, f"prompt={prompt}", f"output={out / 'runs'}", *overrides, listeners=listeners)
    seconds, processor_seconds = time.monotonic() - started, time.process_time() - busy
    scene = result.scene
    made = scene.render(scene.views(VIEWS, 64, ELEVATION))
    cameras, images = made.cameras, made.colours
    truth = SdfScene(SdfScene.Config(shape=prompt))
    true_render = seen_volume(truth, cameras)
    view = verdict_of(judge, images).view
    score = Score(
        prompt,
        result.config.seed,
        held_out,
        iou(result.artifacts["glb"], truth),
        colour_error(images, made.render.opacity, true_render.colour, true_render.opacity),
        has_front(truth) and two_faced(view, cameras.azimuth, cameras.elevation),
        seconds,
        processor_seconds,
        str(result.directory),
        measure_asset(result.artifacts["glb"], truth),
    )
    return score, images


def retrieval(judge: Judge, images: dict[str, Tensor], texts: list[str]) -> dict[str, float]:
    """Returns prompt -> share of its renders for which the judge ranks it first among `texts` (R-precision)."""
    found = {}
    for prompt, pictures in images.items():
        verdict = verdict_of(judge, pictures)
        best = torch.stack([likelihood(judge, verdict, text) for text in texts], 1).argmax(1)
        found[prompt] = float((best == texts.index(prompt)).float().mean())
    return found


def line(name: str, mark: str, scores: list[Score], precision: list[float], shape: str) -> str:
    """Returns one row of the table: the means of `scores`, which are not empty, with the IoU as `shape` says it."""
    figures = [
        name,
        mark,
        shape,
        f"{fmean(s.colour_error for s in scores):.3f}",
        f"{fmean(precision):.2f}",
        f"{fmean(s.two_faced for s in scores):.0%}",
        f"{fmean(s.seconds for s in scores):.0f}",
        f"{fmean(s.processor_seconds for s in scores):.0f}",
    ]
    return f"| {' | '.join(figures)} |"


def table(scores: list[Score], precision: dict[tuple[str, int], float]) -> str:
    """Returns the figures as a Markdown table. Means over all, seen and held-out prompts follow, and over each seed.

    precision: (prompt, seed) -> R-precision. Where a prompt has several seeds, its row has the IoU of each.
    """
    lines = [
        "| prompt | held out | IoU | colour error | R-precision | two-faced | seconds | processor seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for prompt in dict.fromkeys(s.prompt for s in scores):
        mine = [s for s in scores if s.prompt == prompt]
        shape = ", ".join(f"{s.iou:.2f}" for s in mine)
        lines.append(line(prompt, "yes" if mine[0].held_out else "", mine, [precision[prompt, s.seed] for s in mine], shape))
    groups = {"all": scores, "seen": [s for s in scores if not s.held_out], "held out": [s for s in scores if s.held_out]}
    seeds = sorted({s.seed for s in scores})
    if len(seeds) > 1:
        groups |= {f"seed {seed}": [s for s in scores if s.seed == seed] for seed in seeds}
    for name, group in groups.items():
        if group:
            shape = f"**{fmean(s.iou for s in group):.2f}** (min {min(s.iou for s in group):.2f})"
            lines.append(line(f"**{name}** ({len(group)})", "", group, [precision[s.prompt, s.seed] for s in group], shape))
    return "\n".join(lines)


def asset_table(scores: list[Score]) -> str:
    """Returns the figures of the exported GLBs as a Markdown table, and their means; what an object does not have is left out."""
    names = {
        "PSNR, dB": "psnr",
        "SSIM": "ssim",
        "normals, degrees": "normals",
        "edges found": "edges",
        "false edges": "false_edges",
        "colour": "colour",
    }
    lines = [f"| prompt | seed | {' | '.join(names)} | closed | pieces | crossings |", "|---" * (len(names) + 5) + "|"]
    shapes = {"psnr": ".1f", "ssim": ".3f", "normals": ".1f", "edges": ".2f", "false_edges": ".2f", "colour": ".3f"}

    def row(name: str, seed: str, group: list[Score]) -> str:
        figures = []
        for field in names.values():
            values = [value for value in (getattr(one.asset, field) for one in group) if not math.isnan(value)]
            figures.append(format(fmean(values), shapes[field]) if values else "")
        closed, pieces = fmean(one.asset.watertight for one in group), fmean(one.asset.pieces for one in group)
        crossed = [one.asset.crossings for one in group if one.asset.crossings is not None]
        cross = f"{fmean(crossed):.3g}" if crossed else ""
        return f"| {name} | {seed} | {' | '.join(figures)} | {closed:.0%} | {pieces:.3g} | {cross} |"

    lines += [row(one.prompt, str(one.seed), [one]) for one in scores]
    return "\n".join([*lines, row(f"**all** ({len(scores)})", "", scores)])


def read(path: Path) -> Score:
    """Reads one run's figures."""
    fields = json.loads(path.read_text())
    return Score(**fields | {"asset": Figures(**fields["asset"])})


def record(out: Path, prompt: str, seed: int) -> Path:
    """Returns the file of one run's figures. Its renders lie next to it, as .pt."""
    return out / f"{prompt.replace(' ', '-')}-{seed}.json"


def measure_one(job: tuple[str, bool, int], config: str, overrides: Sequence[str], out: Path, threads: int) -> None:
    """Makes one run (prompt, held out, seed) on `threads` threads, and writes its record."""
    torch.set_num_threads(threads)
    prompt, held_out, seed = job
    score, images = measure(Judge.load(), prompt, held_out, config, [*overrides, f"seed={seed}"], out)
    path = record(out, prompt, seed)
    torch.save(images, path.with_suffix(".pt"))
    path.write_text(json.dumps(asdict(score), indent=1))
    figures = f"IoU {score.iou:.2f}, colour error {score.colour_error:.3f}, {score.seconds:.0f} s"
    print(f"{prompt}, seed {seed}: {figures}", flush=True)


def main() -> None:
    """Makes the missing runs under --out and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and figures; finished runs are not made again")
    parser.add_argument("--config", default=str(ROOT / "configs" / "dreamfusion.yaml"))
    parser.add_argument("--prompts", type=int, default=24, help="only the first N, taken evenly")
    parser.add_argument("--seeds", default="0", help="comma-separated; all prompts at the first seed come first")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time; they share the cores evenly")
    parser.add_argument("overrides", nargs="*", help="config overrides, as for dfw run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    every = prompts()
    chosen = every[:: max(len(every) // args.prompts, 1)][: args.prompts]
    wanted = [(prompt, held, int(seed)) for seed in args.seeds.split(",") for prompt, held in chosen]
    missing = [job for job in wanted if not record(args.out, job[0], job[2]).is_file()]
    threads = max((os.cpu_count() or 1) // args.processes, 1)
    fresh = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(args.processes, fresh) as pool:
        work = [pool.submit(measure_one, job, args.config, args.overrides, args.out, threads) for job in missing]
        for made in work:
            made.result()
    judge, texts = Judge.load(), [text for text, _ in chosen]
    scores, precision = [], {}
    for prompt, _, seed in wanted:
        path = record(args.out, prompt, seed)
        scores.append(read(path))
        images = torch.load(path.with_suffix(".pt"), weights_only=True)
        precision[prompt, seed] = retrieval(judge, {prompt: images}, texts)[prompt]
    print(table(scores, precision))
    print()
    print(asset_table(scores))


if __name__ == "__main__":
    main()
