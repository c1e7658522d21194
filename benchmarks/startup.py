"""Measures what a command costs before its work begins: processor time of the process, user and system together.

    python benchmarks/startup.py                  # the table
    python benchmarks/startup.py --imports        # and which packages a dry run imports, with their share of the time

Each command runs several times in a process of its own, all commands in turn. The figures are medians. On a busy machine
processor time is more reliable than wall time, and the ratio to `import torch` on the same machine is more reliable than
both.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass

FIRST_STEP = """
import gc
from dfw.cli.process import FEWER_COLLECTIONS, end
gc.set_threshold(FEWER_COLLECTIONS)
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.plugins.registry import registry
from dfw.runs.start import make_trainer
config = load_config("dreamfusion")
trainer = make_trainer(config, compose(config, registry()).build())
trainer.train(lambda: trainer.step >= 1, lambda record: None)
end(0)
"""
DRY = ("-m", "dfw", "run", "dreamfusion", "--dry-run")


@dataclass(frozen=True)
class Start:
    """A command, and the exit code that it must have."""

    name: str
    arguments: tuple[str, ...]
    """What follows `python`."""
    code: int = 0


BASE = Start("python -c 'import torch'", ("-c", "import torch"))
STARTS = (
    BASE,
    Start("dfw --help", ("-m", "dfw", "--help")),
    Start("unknown configuration", ("-m", "dfw", "run", "dreamfuson"), 2),
    Start("unknown key", ("-m", "dfw", "run", "dreamfusion", "trainer.stps=3"), 2),
    Start("unknown component", ("-m", "dfw", "run", "dreamfusion", "guidance.type=stable"), 3),
    Start("unknown word in the prompt", ("-m", "dfw", "run", "dreamfusion", "prompt=a red unicorn"), 2),
    Start("dfw run dreamfusion --dry-run", DRY),
    Start("first step of the default run done", ("-c", FIRST_STEP)),
)


def processor_seconds(start: Start) -> float:
    """Runs a command and returns its processor time. Raises RuntimeError if its exit code is another one."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, *start.arguments], cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != start.code:
        raise RuntimeError(f"{start.name}: exit code {done.returncode} instead of {start.code}: {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(arguments: tuple[str, ...]) -> list[tuple[str, float]]:
    """Returns package -> its share of the time of all imports, largest first."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    taken: Counter[str] = Counter()
    for own, name in re.findall(r"import time: +(\d+) \| +\d+ \| +(\w+)", done.stderr):
        taken[name] += int(own)
    return [(name, value / taken.total()) for name, value in taken.most_common()]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each command")
    parser.add_argument("--imports", action="store_true", help="show what a dry run imports")
    args = parser.parse_args()
    rounds = [{start: processor_seconds(start) for start in STARTS} for _ in range(args.repeats)]
    seconds = {start: statistics.median(times[start] for times in rounds) for start in STARTS}
    print("| command | processor seconds | of `import torch` |\n|---|---|---|")
    for start, value in seconds.items():
        print(f"| {start.name} | {value:.2f} | {value / seconds[BASE]:.2f} |")
    if args.imports:
        print(", ".join(f"{name} {share:.0%}" for name, share in imports(DRY) if share >= 0.01))


if __name__ == "__main__":
    main()
