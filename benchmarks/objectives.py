"""Every objective on the shipped prior: the same prompts, the same seed, the same number of steps or of network calls.

    python benchmarks/objectives.py --out results/objectives                    # equal steps; resumable: finished runs are kept
    python benchmarks/objectives.py --out results/calls --budget calls          # equal network calls: a costly step means fewer
    python benchmarks/objectives.py --out /tmp/try --prompts 1 --steps 3 --only dreamfusion,csd

Prints, per objective: volume IoU with the true shape, colour error, R-precision among the prompts (all as `benchmarks/quality.py`
measures them), seconds and network calls a step; writes a contact sheet, a row for each objective, a column for each prompt.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from quality import Judge, Score, measure, prompts, retrieval
from torch import Tensor

from dfw.config import load_config
from dfw.sample import contact_sheet
from dfw_guidance.stable_diffusion import StableDiffusion

OBJECTIVES = dict.fromkeys(("dreamfusion", "score", "diffusion", "sjc", "csd", "nfsd", "bridge", "hifa"), 1)
OBJECTIVES |= {"asd": 2, "ism": 5, "sdi": 11}
"""Configuration -> network calls a step, by which `--budget calls` divides the steps."""
VIEW = 1
"""Which of the eight renders of a run the contact sheet shows: a little to the side of the front."""


@dataclass
class Counter:
    """Network calls, and images that went through the network in them."""

    calls: int = 0
    images: int = 0


@contextmanager
def counting() -> Iterator[Counter]:
    """Counts what the prior is asked while the block runs."""
    counter, inner = Counter(), StableDiffusion.predict

    def counted(self: StableDiffusion, noisy: Tensor, timestep: Tensor, conditioning: object) -> Tensor:
        counter.calls += 1
        counter.images += len(noisy)
        return inner(self, noisy, timestep, conditioning)  # type: ignore[arg-type]

    StableDiffusion.predict = counted  # type: ignore[method-assign,assignment]
    try:
        yield counter
    finally:
        StableDiffusion.predict = inner  # type: ignore[method-assign]


@dataclass(frozen=True)
class Result:
    """One run: quality's figures, the steps it took, seconds of a step, network calls and images of a step."""

    score: Score
    steps: int
    step_seconds: float
    calls: float
    images: float


def one(
    judge: Judge, objective: str, prompt: str, held: bool, steps: int, overrides: list[str], out: Path
) -> tuple[Result, Tensor]:
    """Runs one objective on one prompt; also its renders (8, 64, 64, 3)."""
    with counting() as counter:
        score, images = measure(judge, prompt, held, objective, [f"trainer.steps={steps}", *overrides], out / objective)
    rows = [json.loads(line) for line in (Path(score.directory) / "metrics.jsonl").read_text().splitlines()]
    seconds = sum(sum(row["seconds"].values()) for row in rows) / len(rows)
    return Result(score, steps, seconds, counter.calls / steps, counter.images / steps), images


def table(results: dict[str, list[Result]], precision: dict[str, dict[str, float]]) -> str:
    """Means over the prompts, a row for each objective, as Markdown."""
    lines = [
        "| objective | steps | IoU | colour error | R-precision | two-faced | s / step | network calls / step | images / step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for objective, runs in results.items():
        found = precision[objective]
        figures = [
            (r.score.iou, r.score.colour_error, found[r.score.prompt], r.score.two_faced, r.step_seconds, r.calls, r.images)
            for r in runs
        ]
        iou, colour, right, faces, seconds, calls, images = (sum(row) / len(runs) for row in zip(*figures, strict=True))
        quality = f"{iou:.2f} | {colour:.3f} | {right:.2f} | {faces:.0%}"
        lines.append(f"| {objective} | {runs[0].steps} | {quality} | {seconds:.2f} | {calls:.1f} | {images:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing under --out, prints the table and writes the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs, figures and the contact sheet")
    parser.add_argument("--prompts", type=int, default=4, help="how many of quality.py's 24, taken evenly")
    parser.add_argument("--steps", type=int, default=0, help="steps; default: the configuration's")
    parser.add_argument("--budget", choices=("steps", "calls"), default="steps", help="what is equal")
    parser.add_argument("--only", default="", help="comma-separated configurations; default: all")
    parser.add_argument("overrides", nargs="*", help="config overrides, as for dfw run")
    args = parser.parse_args()
    every = prompts()
    chosen = every[:: max(len(every) // args.prompts, 1)][: args.prompts]
    names = [name for name in args.only.split(",") if name] or list(OBJECTIVES)
    judge = Judge.load()
    results: dict[str, list[Result]] = {}
    images: dict[str, dict[str, Tensor]] = {}
    for name in names:
        full = args.steps or load_config(name).trainer.steps
        steps = max(full // (OBJECTIVES[name] if args.budget == "calls" else 1), 1)
        for prompt, held in chosen:
            record = args.out / name / f"{prompt.replace(' ', '-')}.json"
            if not record.is_file():
                result, pictures = one(judge, name, prompt, held, steps, args.overrides, args.out)
                record.parent.mkdir(parents=True, exist_ok=True)
                torch.save(pictures, record.with_suffix(".pt"))
                record.write_text(json.dumps(asdict(result), indent=1))
                print(f"{name}, {prompt}: IoU {result.score.iou:.2f}, {result.step_seconds:.2f} s a step", flush=True)
            read = json.loads(record.read_text())
            results.setdefault(name, []).append(Result(**read | {"score": Score(**read["score"])}))
            images.setdefault(name, {})[prompt] = torch.load(record.with_suffix(".pt"), weights_only=True)
    texts = [prompt for prompt, _ in chosen]
    print(table(results, {name: retrieval(judge, found, texts) for name, found in images.items()}))
    sheet = torch.stack([torch.stack([found[text][VIEW] for text in texts]) for found in images.values()])
    contact_sheet(sheet.permute(0, 1, 4, 2, 3)).save(args.out / "sheet.png")


if __name__ == "__main__":
    main()
