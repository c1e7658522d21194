#!/usr/bin/env python3
"""Damages a stopped run, one place at a time, and tries whether `dfw` notices.

    python corrupt.py [COUNT] [--seed N] [--keep DIR]

COUNT damages (default 150), each of one file or of a whole checkpoint: a flipped bit, a truncation, zeroed bytes, emptied,
removed, replaced by a folder or a link to nowhere, filled with noise, JSON of another shape, exchanged for the same file of
another run. After each, one of: `dfw run --resume`, `dfw export`, `dfw render`, `start.run` in a new run, `dfw.open` from
Python.

What must hold: one sentence and exit code 2 (or 3, 4); or an end that is the same to the bit as without damage; or another
end with a warning that names the damaged file. A traceback, exit code 1, a crash, a hang, or an end that differs without such
a warning is a failure. Prints each failure, and a table of what was damaged and what became of it. Exits 0 where there is no
failure. --seed chooses other damages, and --keep keeps the directories in which they were tried. Finds `dfw` on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from processes import FIELD, PIXELS, Process, die_at, points_of, warm, with_dfws_python

with_dfws_python()

from crash import checkpoints, only_run, outcome  # noqa: E402

KINDS = {"pixels": PIXELS, "field": FIELD}
VERBS = {"pixels": ("resume", "resume", "render", "start", "open"), "field": ("resume", "export", "render", "start", "open")}
SHAPES = (b"[]", b"1", b"null", b"{}", b'"text"', b"[" * 5000, b'{"step": ' + b"9" * 5000 + b"}", b"step: [", b"\xff\xfe")
SHORT = ("output=started", "trainer.steps=1", "export.formats=[]", "export.turntable_frames=0")


def open_in_python(run: Path) -> None:
    """What a script does: opens a run, prints what its files say, and ends the process."""
    import logging

    import dfw

    logging.basicConfig(format="%(levelname)s: %(message)s")
    code = 0
    try:
        opened = dfw.open(run)
        found = [opened.status, opened.manifest, opened.metrics, {name: str(path) for name, path in opened.artifacts.items()}]
        print("FOUND", json.dumps(found, sort_keys=True))
    except dfw.DfwError as error:
        print(f"error: {error}")
        code = 2
    sys.stdout.flush()
    os._exit(code)


def flip(data: bytearray, rng: random.Random) -> str:
    """Flips one bit."""
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at} of {len(data)}"


def truncate(data: bytearray, rng: random.Random) -> str:
    """Keeps the beginning."""
    size = len(data)
    del data[rng.randrange(size) :]
    return f"{len(data)} of {size} bytes kept"


def cut_one(data: bytearray, _: random.Random) -> str:
    """Drops the last byte."""
    del data[-1]
    return "last byte gone"


def zero(data: bytearray, rng: random.Random) -> str:
    """Zeroes some bytes."""
    at = rng.randrange(len(data))
    size = min(rng.choice((1, 16, 512, 4096)), len(data) - at)
    data[at : at + size] = bytes(size)
    return f"{size} bytes from {at} zeroed"


def empty(data: bytearray, _: random.Random) -> str:
    """Drops everything."""
    data.clear()
    return "emptied"


def noise(data: bytearray, rng: random.Random) -> str:
    """Replaces everything by noise of the same length."""
    data[:] = rng.randbytes(len(data))
    return "noise"


def append(data: bytearray, rng: random.Random) -> str:
    """Adds noise at the end."""
    data += rng.randbytes(40)
    return "40 bytes appended"


def shape(data: bytearray, rng: random.Random) -> str:
    """Writes text that is well formed in some format, and not what belongs there."""
    data[:] = rng.choice(SHAPES)
    return f"now {bytes(data[:20])!r}"


CHANGES: dict[str, Callable[[bytearray, random.Random], str]] = {
    one.__name__: one for one in (flip, truncate, cut_one, zero, empty, noise, append, shape)
}
REPLACEMENTS = ("remove", "folder", "nowhere", "other-run")
WHOLE = ("whole-other-run", "whole-other-step")


def damage(path: Path, how: str, rng: random.Random, other: Path) -> str | None:
    """Damages `path` and says how. None where it would stay as it is."""
    if how in CHANGES:
        before = path.read_bytes()
        data = bytearray(before)
        said = CHANGES[how](data, rng) if data else None
        path.write_bytes(data)
        return said if data != before else None
    if how == "other-run":
        if not other.is_file() or other.read_bytes() == path.read_bytes():
            return None
        path.write_bytes(other.read_bytes())
        return "of another run"
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "nowhere":
        path.symlink_to("/nowhere/at/all")
    return how


def damage_checkpoint(path: Path, how: str, other: Path) -> str | None:
    """Exchanges a whole checkpoint."""
    source = {"whole-other-run": other, "whole-other-step": checkpoints(path.parent.parent)[0]}[how]
    if not source.is_dir() or source == path:
        return None
    shutil.rmtree(path)
    shutil.copytree(source, path)
    return how


@dataclass(frozen=True)
class Tried:
    """What a damage led to."""

    code: int
    said: str
    found: object


class Bench:
    """Stopped runs to damage, and what each verb makes of them when they are whole."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root, random.Random(seed)
        self.sources: dict[str, Path] = {}
        self.others: dict[str, Path] = {}
        self.wanted: dict[tuple[str, str], object] = {}
        for kind, text in KINDS.items():
            counted = self.make(f"count-{kind}", text, 0)
            point = int(points_of(counted / "runs") * 0.72)
            self.sources[kind] = self.make(f"source-{kind}", text, point)
            self.others[kind] = self.make(f"other-{kind}", text, point, "seed=1")
            for verb in dict.fromkeys(VERBS[kind]):
                copy = root / f"wanted-{kind}-{verb}"
                shutil.copytree(self.sources[kind], copy)
                tried = self.attempt(verb, copy)
                if tried.code != 0:
                    sys.exit(f"{verb} of a whole run failed: {tried.said}")
                self.wanted[kind, verb] = tried.found

    def make(self, name: str, text: str, point: int, *more: str) -> Path:
        """Runs a configuration in a new folder, and kills it before its `point`-th operation of the file system."""
        folder = self.root / name
        folder.mkdir()
        (folder / "c.yaml").write_text(text)
        Process(["run", "c.yaml", *more], folder, folder / "log", die_at(point, folder / "runs")).wait()
        return folder

    def attempt(self, verb: str, folder: Path) -> Tried:
        """Calls a verb on the run in `folder`, and collects what it made."""
        run = only_run(folder)
        arguments = {
            "resume": ["run", "--resume", str(run)],
            "export": ["export", str(run), "--out", str(folder / "out")],
            "render": ["render", str(run), "--out", str(folder / "out.webp")],
            "start": ["run", "c.yaml", f"start.run={run}", *SHORT],
            "open": [],
        }[verb]
        process = Process(arguments, folder, folder / "log2", partial(open_in_python, run) if verb == "open" else None)
        code = process.wait()
        found: object = None
        if code == 0:
            try:
                found = self.collect(verb, folder, process.text)
            except Exception as error:
                found = f"unreadable: {type(error).__name__}: {error}"
        return Tried(code, process.text, found)

    def collect(self, verb: str, folder: Path, said: str) -> object:
        """Returns what must be the same to the bit."""
        if verb == "resume":
            return outcome(only_run(folder))
        if verb == "export":
            return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}
        if verb == "render":
            return (folder / "out.webp").read_bytes()
        if verb == "start":
            (started,) = (folder / "started" / "crash").iterdir()
            return {path.name: path.read_bytes() for path in checkpoints(started)[-1].glob("*.safetensors")}
        (line,) = (line for line in said.splitlines() if line.startswith("FOUND "))
        return json.loads(line.removeprefix("FOUND ").replace(str(folder), ""))

    def choose(self) -> tuple[str, str, Path, str]:
        """Draws a kind of run, a verb, a damage, and the file (relative to the run) that it hits."""
        rng = self.rng
        kind = rng.choice(("pixels", "pixels", "field"))
        run = only_run(self.sources[kind])
        newest = checkpoints(run)[-1]
        files = sorted(path for path in run.rglob("*") if path.is_file())
        weighted = files + 3 * [path for path in files if path.parent == newest] + [path for path in files if path.parent == run]
        how = rng.choice((*CHANGES, "flip", "flip", *REPLACEMENTS, rng.choice(WHOLE)))
        target = newest if how in WHOLE else rng.choice(weighted)
        return kind, rng.choice(VERBS[kind]), target.relative_to(run), how

    def once(self, number: int) -> tuple[str, str, str] | None:
        """Tries one damage: what was hit, what became of it, and all about it. None where the damage changed nothing."""
        kind, verb, relative, how = self.choose()
        folder = self.root / f"{number:04d}"
        shutil.copytree(self.sources[kind], folder, symlinks=True)
        target, other = only_run(folder) / relative, only_run(self.others[kind]) / relative
        detail = damage_checkpoint(target, how, other) if how in WHOLE else damage(target, how, self.rng, other)
        if detail is None:
            shutil.rmtree(folder)
            return None
        tried = self.attempt(verb, folder)
        word, more = judge(tried, self.wanted[kind, verb], relative)
        shutil.rmtree(folder, ignore_errors=True)
        return self.group(relative, kind), word, f"{kind}: {relative}: {how} ({detail}), then {verb}{more}"

    def group(self, relative: Path, kind: str) -> str:
        """Returns the row of the table for a file."""
        place, *below = relative.parts
        if place == "images":
            return "images/*.png"
        if place != "checkpoints":
            return str(relative)
        age = "newest" if below[0] == checkpoints(only_run(self.sources[kind]))[-1].name else "older"
        return " ".join((age, "checkpoint", *below[1:]))


def judge(tried: Tried, wanted: object, relative: Path) -> tuple[str, str]:
    """Returns the verdict, in capitals where it is a failure, and what else there is to say."""
    lines = tried.said.strip().splitlines()
    last = f": exit {tried.code}: {lines[-1][:160] if lines else ''}"
    if "Traceback" in tried.said or tried.code in {1, 99}:
        verdict = "TRACEBACK", last
    elif tried.code < 0:
        verdict = "CRASH", last
    elif tried.code and sum(line.startswith("error: ") for line in lines) != 1:
        verdict = "NO MESSAGE", last
    elif tried.code and len(tried.said) > 3000:
        verdict = "LONG MESSAGE", f": {len(tried.said)} characters"
    elif tried.code:
        verdict = f"refused ({tried.code})", ""
    else:
        verdict = compare(tried.found, wanted, relative, lines)
    return verdict


def compare(found: object, good: object, relative: Path, lines: list[str]) -> tuple[str, str]:
    """Judges an end with exit code 0: the same to the bit, or announced by a warning that names the damaged file."""
    if relative.parts[0] == "images" and isinstance(found, dict) and isinstance(good, dict):
        # A preview is not a result: it need not be noticed.
        found, good = ({key: one for key, one in side.items() if key != str(relative)} for side in (found, good))
    if found == good:
        return "harmless", ""
    names = {relative.name, *(part for part in relative.parts if part.startswith("step-"))}
    if any("WARNING" in line and any(name in line for name in names) for line in lines):
        return "warned", ""
    if isinstance(found, dict) and isinstance(good, dict):
        return "SILENT", f": differs in {sorted(key for key in good if found.get(key) != good[key])}"
    return "SILENT", f": {found if isinstance(found, str) else 'other content'}"


def main() -> int:
    """Tries the damages, and prints what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=150, help="damages to try")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other damages")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to work, and what to keep")
    options = parser.parse_args()
    root = (options.keep or Path(tempfile.mkdtemp(prefix="dfw-corrupt-"))).resolve()
    root.mkdir(parents=True, exist_ok=True)
    warm()
    bench = Bench(root, options.seed)
    table: Counter[tuple[str, str]] = Counter()
    failures = tried = 0
    while tried < options.count:
        result = bench.once(tried)
        if result is None:
            continue
        tried += 1
        group, word, label = result
        table[group, word] += 1
        if word.isupper():
            failures += 1
            print(f"FAILED {word}: {label}", flush=True)
    for (group, word), count in sorted(table.items()):
        print(f"  {group:<45} {word:<16} {count}")
    if options.keep is None:
        shutil.rmtree(root, ignore_errors=True)
    verdicts: Counter[str] = Counter()
    for (_, word), count in table.items():
        verdicts[word] += count
    print(f"corrupt: seed {options.seed}, {tried} damages, {dict(verdicts)}, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
