"""Compares all objectives on the shipped prior: same prompts, same seed, the same number of steps (or of network calls).

    python benchmarks/objectives.py --out results/objectives             # 2D and 3D, small; resumable: finished cells are kept
    python benchmarks/objectives.py --out results/full --full            # the configurations' own steps and picture sizes
    python benchmarks/objectives.py --out results/calls --budget calls   # more network calls a step: fewer steps
    python benchmarks/objectives.py --out /tmp/try --part 2d --steps 3 --only dreamfusion,csd

2D optimises planes of pixels for the front view. 3D optimises a NeRF and judges it as `benchmarks/quality.py` does. The script
prints each objective's quality, and CPU seconds and network calls of a step. It writes a contact sheet with a row for each
objective. Several processes may share one --out, each with its own --only or --part. If an objective fails, the table shows its
message and the others go on. Delete its .json to run it again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
import yaml
from diffusers import UNet2DConditionModel
from objectives_table import Cell, contact_sheet, table
from quality import Judge, likelihood, measure, prompts, verdict_of
from torch import Tensor

from dfw.compose import compose
from dfw.config.load import load_config
from dfw.config.settings import RunConfig
from dfw.interfaces.events import StepEnded
from dfw.interfaces.hooks import hookimpl
from dfw.runs.start import make_trainer

ROOT = Path(__file__).parents[1]
CALLS = {"asd": 2, "rfds-rev": 2, "esd": 3, "vsd": 3, "sctd": 4, "ism": 5, "tsm": 6, "sdi": 11}
"""Configuration -> network calls of a step where it is not 1; `--budget calls` divides the steps by them."""
REGULARISERS = ("entropy", "opacity", "z-variance")
"""Losses that need a scene. A plane has none, so 2D leaves them out."""
SMALL = ("cameras.width=32", "export.resolution=64", "export.texture=256")
QUICK = ("export.formats=[glb]", "export.turntable_frames=0", "trainer.preview_every=1000000")
SIDE = 64


def objectives() -> list[str]:
    """Returns `dreamfusion`, then all shipped configurations that replace its objective, those with few calls first."""
    read = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs").glob("*.yaml")}
    ours = [
        name
        for name, data in read.items()
        if data.get("extends") == "dreamfusion.yaml" and "type" in data.get("losses", {}).get("sds", {})
    ]
    return ["dreamfusion", *sorted(ours, key=lambda name: (CALLS.get(name, 1), name))]


@dataclass(eq=False)
class Meter:
    """A listener that counts the U-Net's forward passes, and notes CPU time and calls at the end of each step."""

    calls: int = 0
    """Forward passes so far."""
    images: int = 0
    """Images in them."""
    times: list[float] = field(default_factory=list)
    """CPU time at the end of each step."""
    at_step: tuple[int, int] = (0, 0)
    """Calls and images at the end of the last step."""

    def tick(self, _step: object = None) -> None:
        """Notes time and calls at the end of a step."""
        self.times.append(time.process_time())
        self.at_step = self.calls, self.images

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """Does the same for a run."""
        self.tick(step)

    def per_step(self) -> dict[str, float]:
        """Returns a step's median CPU seconds, without previews and the first step, and its mean calls and images."""
        seconds = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        calls, images = (count / len(self.times) for count in self.at_step)
        return {"seconds": median(seconds) if seconds else float("nan"), "calls": calls, "images": images}


@contextmanager
def metering() -> Iterator[Meter]:
    """Counts all calls of any U-Net while the block runs."""
    meter, inner = Meter(), UNet2DConditionModel.forward

    def counted(self: UNet2DConditionModel, sample: Tensor, *args: object, **named: object) -> object:
        meter.calls += 1
        meter.images += len(sample)
        return inner(self, sample, *args, **named)

    UNet2DConditionModel.forward = counted
    try:
        yield meter
    finally:
        UNet2DConditionModel.forward = inner


def plane_config(objective: str, prompt: str, planes: int, overrides: Sequence[str]) -> RunConfig:
    """Returns `playground-2d` with `objective`'s distillation losses, and `planes` independent pictures at once."""
    several = (f"geometry.count={planes}", f"cameras.batch_size={planes}")
    base = load_config("playground-2d", [f"prompt={prompt}, front view", *several, *overrides])
    losses = {key: loss for key, loss in load_config(objective).losses.items() if key not in REGULARISERS}
    return base.model_copy(update={"losses": losses})


def in_2d(judge: Judge, config: RunConfig, prompt: str, planes: int) -> tuple[dict[str, float], Tensor]:
    """Optimises pixels. Returns the judge's mean log-likelihood, the meter's figures, and the pictures (P, 64, 64, 3)."""
    with metering() as meter:
        trainer = make_trainer(config, compose(config).build())
        trainer.train(lambda: False, meter.tick)
    images = trainer.scene.render(trainer.scene.views(planes, SIDE)).colours
    likely = float(likelihood(judge, verdict_of(judge, images), prompt).mean())
    return {"likelihood": likely} | meter.per_step(), images


def in_3d(judge: Judge, objective: str, prompt: str, overrides: Sequence[str], out: Path) -> tuple[dict[str, float], Tensor]:
    """Runs the configuration. Returns quality's figures, the meter's, and 8 renders (8, 64, 64, 3)."""
    held = dict(prompts())[prompt]
    with metering() as meter:
        score, images = measure(judge, prompt, held, objective, [*QUICK, *overrides], out, [meter])
    quality = {"iou": score.iou, "colour error": score.colour_error, "two-faced": float(score.two_faced)}
    return quality | meter.per_step(), images


def attempt(path: Path, cell: Cell, work: Callable[[], tuple[dict[str, float], Tensor]]) -> None:
    """Runs one cell and writes its record. An exception becomes the record's `failure`, with a traceback next to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        cell.figures, pictures = work()
        torch.save(pictures, path.with_suffix(".pt"))
    except Exception as error:  # one broken objective must not lose the rest
        cell.failure = f"{type(error).__name__}: {error}"
        path.with_suffix(".traceback").write_text(traceback.format_exc())
    path.write_text(json.dumps(asdict(cell), indent=1))
    print(cell.line(), flush=True)


def cells(args: argparse.Namespace, judge: Judge, part: str) -> list[tuple[Cell, Tensor | None]]:
    """Returns all cells of one part, and runs the missing ones first."""
    found = []
    for prompt in args.prompts:  # the outer loop, so that an unfinished comparison has every objective on the first prompt
        for name in args.only:
            own = load_config("playground-2d" if part == "2d" else name).trainer.steps
            steps = max((own if args.full else args.steps) // (CALLS.get(name, 1) if args.budget == "calls" else 1), 2)
            ours = [f"trainer.steps={steps}", *(() if args.full or part == "2d" else SMALL), *args.overrides]
            path = args.out / part / name / f"{prompt.replace(' ', '-')}.json"
            if not path.is_file():

                def work(name: str = name, prompt: str = prompt, ours: Sequence[str] = ours) -> tuple[dict[str, float], Tensor]:
                    if part == "2d":
                        return in_2d(judge, plane_config(name, prompt, args.planes, ours), prompt, args.planes)
                    return in_3d(judge, name, prompt, ours, args.out)

                attempt(path, Cell(name, prompt, steps), work)
            cell = Cell(**json.loads(path.read_text()))
            pictures = None if cell.failure else torch.load(path.with_suffix(".pt"), weights_only=True)
            found.append((cell, pictures))
    return found


def arguments() -> argparse.Namespace:
    """Reads the command line and checks its names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs, figures and the contact sheet")
    parser.add_argument("--part", choices=("2d", "3d", "both"), default="both")
    parser.add_argument("--prompts", default="a red mushroom,a yellow duck", help="comma-separated, of quality.py's 24")
    parser.add_argument("--planes", type=int, default=2, help="independent pictures of a prompt in 2D")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--full", action="store_true", help="the configurations' own steps and picture sizes")
    parser.add_argument(
        "--budget", choices=("steps", "calls"), default="steps", help="what every objective gets the same number of"
    )
    parser.add_argument("--only", default=",".join(objectives()), help="comma-separated configurations; default: all")
    parser.add_argument("overrides", nargs="*", help="config overrides, as for dfw run")
    args = parser.parse_args()
    args.only = args.only.split(",")
    args.prompts = args.prompts.split(",")
    for option, given, known in (("--prompts", args.prompts, dict(prompts())), ("--only", args.only, objectives())):
        for name in given:
            if name not in known:
                parser.error(f"{option}: {name!r} is unknown; write some of {', '.join(known)}")
    return args


def main() -> int:
    """Runs the missing cells, prints a table for each part and writes the contact sheet. Returns 1 if a cell failed."""
    args = arguments()
    judge = Judge.load()
    parts = {part: cells(args, judge, part) for part in ("2d", "3d") if args.part in (part, "both")}
    for part, found in parts.items():
        print(f"\n{part}\n\n{table(judge, found)}")
    contact_sheet(parts).save(args.out / "sheet.png", optimize=True)
    return int(any(cell.failure for found in parts.values() for cell, _ in found))


if __name__ == "__main__":
    sys.exit(main())
