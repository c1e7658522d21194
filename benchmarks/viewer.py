"""How much slower a run is while somebody watches, and while nobody does.

python benchmarks/viewer.py [--rounds 6] [--steps 20] [--config dreamfusion]

In each round the same trainer takes `steps` steps in three ways, in an order that changes from round to round: without a viewer,
with a viewer that nobody looks at, and with a page that turns its camera twenty times a second over a real websocket, from a
process of its own. Reported are medians, over the rounds, of the ratios to the steps without a viewer in the same round: of wall
time, and of the processor time of the run's process, which other work on the machine changes less. Both vary from round to round
by more than a viewer costs. So the third figure is what the viewer itself used: the processor time of its thread, and of its part
of the run's thread. It leaves out what its pictures push out of the caches.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfw.viewer.pace import SMALLEST

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

PLAIN, ALONE, WATCHED = WAYS = ("no viewer", "nobody looks", "a page that turns")
ENDLESS = 10**6
SETTLED = 2.0
"""Seconds until a new page has its first pictures."""


def turn(address: str) -> None:
    """A page that turns, until this process is ended. Prints a line for each picture."""
    from viewer_page import Page

    page, shown = Page(address, 1000, 700), 0
    for azimuth in itertools.count(step=3.0):
        page.look(azimuth)
        time.sleep(0.05)
        while shown < len(page.pictures):
            print(time.monotonic(), page.pictures[shown].shape[1], flush=True)
            shown += 1


class Bench:
    """A trainer, and a viewer for it."""

    def __init__(self, trainer, folder: Path) -> None:  # type: ignore[no-untyped-def]
        from dfw.plugins.listeners import own_listeners
        from dfw.runs.controls import Controls
        from dfw.runs.directory import RunDirectory
        from dfw.runs.life import Life
        from dfw.runs.remaining import Remaining
        from dfw.runs.signals import Stop
        from dfw.runs.times import Times
        from dfw.viewer.door import Door
        from dfw.viewer.live import LiveViewer

        before = set(threading.enumerate())
        self.trainer, self.door = trainer, Door(port=0)
        self.viewer = LiveViewer(self.door)
        self.clocks = [time.pthread_getcpuclockid(one.ident) for one in set(threading.enumerate()) - before if one.ident]
        life, left = Life(folder, Times(), Stop()), Remaining(trainer.config, trainer.scene, False)
        self.controls = Controls(trainer, life, left, [], RunDirectory(folder))
        self.heard = {way: own_listeners([] if way == PLAIN else [self.viewer]) for way in WAYS}
        self.sizes: list[int] = []
        self.rates: list[float] = []

    def take(self, way: str, steps: int) -> tuple[float, float, float]:
        """Wall and processor seconds of `steps` steps, and the processor seconds that the viewer used meanwhile."""
        from dfw import Progress, StepEnded

        wall, worked, own = time.monotonic(), time.process_time(), -sum(map(time.clock_gettime, self.clocks))
        for _, record in zip(range(steps), self.trainer, strict=False):
            event = StepEnded(Progress(record.step, ENDLESS), record.loss, {"lr": record.lr}, record.seconds)
            own -= time.thread_time()
            self.heard[way].step_ended(event)
            self.heard[way].lend_scene(self.trainer.scene, self.controls)
            own += time.thread_time()
        own += sum(map(time.clock_gettime, self.clocks))
        return time.monotonic() - wall, time.process_time() - worked, own

    @contextmanager
    def page(self) -> Iterator[None]:
        """A page that turns while the block runs; what it was shown goes to `sizes` and `rates`."""
        command = [sys.executable, __file__, "--turn", self.door.address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while not self.viewer._guests:
            time.sleep(0.05)
        time.sleep(SETTLED)
        self.viewer._lent = time.monotonic()  # else the time without this viewer would count as steps that fill its credit
        while self.viewer._pace.credit > 2 * SMALLEST:
            self.take(WATCHED, 1)
        self.take(WATCHED, 5)
        began = time.monotonic()
        yield
        ended = time.monotonic()
        process.terminate()
        lines = [line.split() for line in process.stdout or ()]
        shown = [int(width) for at, width in lines if began < float(at) < ended]
        self.sizes += shown
        self.rates.append(len(shown) / (ended - began))
        process.wait()
        while self.viewer._guests:
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the viewer."""
        self.viewer.close()
        self.door.close()


def report(found: dict[str, list[tuple[float, float, float]]], bench: Bench, steps: int) -> None:
    """Prints what is known after a round."""
    for way in WAYS:
        wall, worked = ([one[kind] / plain[kind] for one, plain in zip(found[way], found[PLAIN], strict=True)] for kind in (0, 1))
        own = [100 * mine / cpu for (_, cpu, mine) in found[way]]
        pace = 1000 * statistics.median(one[0] for one in found[way]) / steps
        print(
            f"{way:<18} {pace:7.1f} ms a step; wall time {statistics.median(wall):.3f} ({min(wall):.3f} to {max(wall):.3f}), "
            f"processor time {statistics.median(worked):.3f} ({min(worked):.3f} to {max(worked):.3f}) of no viewer; "
            f"the viewer's own {statistics.median(own):.1f} % ({min(own):.1f} to {max(own):.1f})"
        )
    print(
        f"{statistics.median(bench.rates):.1f} pictures a second, {statistics.median(bench.sizes or [0])} pixels wide", flush=True
    )


def main(config: str, rounds: int, steps: int) -> None:
    """Measures, and prints."""
    import dfw

    with dfw.trainer(config, trainer={"steps": ENDLESS}) as trainer, tempfile.TemporaryDirectory() as folder:
        bench = Bench(trainer, Path(folder))
        bench.take(PLAIN, 3)  # the first step compiles
        found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                if way == WATCHED:
                    with bench.page():
                        found[way].append(bench.take(way, steps))
                else:
                    found[way].append(bench.take(way, steps))
            report(found, bench, steps)
        bench.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="dreamfusion")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        turn(given.turn)
    else:
        main(given.config, given.rounds, given.steps)
