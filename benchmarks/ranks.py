"""Measures what a second process brings to one run: time of a step of two processes against one, of one thread and of two.

    python benchmarks/ranks.py --out results/ranks

Each round runs all three, one after another, so that other work on the machine hits them alike; the ratios of a round are paired.
The cheap prior is a Gaussian in closed form; the dear one is the diffusion model that the package brings. `ranks.svg` in the
folder is the curve for the page: how many times as fast, against the views of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COMMON = ("trainer.preview_every=1000000", "trainer.checkpoint_every=1000000", "export.formats=[]", "export.turntable_frames=0")
GAUSSIAN = "guidance={type: gaussian, resolution: 64, means: {a red mushroom: [0.8, 0.2, 0.2]}}"
PRIORS = {
    "a Gaussian in closed form": (GAUSSIAN, "prompter=plain"),
    "the shipped model": (),
}
WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}


@dataclass(frozen=True)
class Row:
    """What one way took, with one prior and one number of views."""

    prior: str
    views: int
    way: str
    seconds: float
    """Median of the rounds, a step."""
    ratios: tuple[float, ...]
    """How many times as fast as the first way, round by round."""

    @property
    def ratio(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.ratios)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws a panel for each prior: a line for each way but the first, and the range of the rounds as a bar."""
    priors, ways = list(dict.fromkeys(row.prior for row in rows)), list(dict.fromkeys(row.way for row in rows))[1:]
    figure, axes = plt.subplots(1, len(priors), figsize=(4.2 * len(priors), 3.2), sharey=True, squeeze=False)
    for axis, prior in zip(axes[0], priors, strict=True):
        for number, way in enumerate(ways):
            found = sorted((row for row in rows if (row.prior, row.way) == (prior, way)), key=lambda row: row.views)
            below = [row.ratio - min(row.ratios) for row in found]
            above = [max(row.ratios) - row.ratio for row in found]
            views, ratios = [row.views for row in found], [row.ratio for row in found]
            axis.errorbar(views, ratios, (below, above), marker="o", capsize=3, color=f"C{number}", label=way)
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted({row.views for row in rows}), [str(views) for views in sorted({row.views for row in rows})])
        axis.set(title=prior, xlabel="views a step")
    axes[0][0].set_ylabel("times as fast as 1 process, 1 thread")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def step_time(folder: Path, processes: int, threads: int, *overrides: str) -> float:
    """Seconds of a step, the median after the first two, of a run by so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    chosen = [f"trainer.threads={threads}", f"output={folder}"]
    command = [sys.executable, "-m", "dfw", "run", "dreamfusion", *COMMON, *overrides, *chosen]
    begun = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}, stdout=subprocess.DEVNULL)
        for rank in range(processes)
    ]
    codes = [process.wait() for process in begun]
    if any(codes):
        sys.exit(f"a run failed: {' '.join(command)}")
    newest = max(folder.glob("*/*"), key=lambda path: path.stat().st_mtime)
    wall = [json.loads(line)["wall"] for line in (newest / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(after - before for before, after in pairwise(wall[2:]))


def main() -> None:
    """Prints a table for each prior and number of views."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=12, help="steps of a run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--views", type=int, nargs="+", default=[4, 16], help="views a step")
    args = parser.parse_args()
    print("| prior | views a step | way | seconds a step | times as fast as 1 process, 1 thread |\n|---|---|---|---|---|")
    rows: list[Row] = []
    for prior, given in PRIORS.items():
        for views in args.views:
            overrides = (*given, f"cameras.batch_size={views}", f"trainer.steps={args.steps}")
            rounds = [{way: step_time(args.out, *WAYS[way], *overrides) for way in WAYS} for _ in range(args.rounds)]
            first = next(iter(WAYS))
            for way in WAYS:
                seconds = statistics.median(one[way] for one in rounds)
                rows.append(Row(prior, views, way, seconds, tuple(one[first] / one[way] for one in rounds)))
                print(f"| {prior} | {views} | {way} | {seconds:.3f} | {rows[-1].ratio:.2f} |", flush=True)
            draw(rows, args.out / "ranks.svg")  # each time, so that what was measured is there if the rest is stopped


if __name__ == "__main__":
    main()
