#!/usr/bin/env python3
"""Kills `dfw run` at file operations and at random moments, resumes, and compares with a run that was not killed, bit for bit.

    python crash.py [COUNT] [--seed N] [--keep DIR] [--only io,resume,random,export]

COUNT kills (default 120): a third just before a file operation of a run (as SQLite's crash tests do), a third the same during a
resume, the rest by SIGKILL, SIGTERM, SIGHUP, SIGINT and two SIGINTs at random moments, of runs, resumes and exports. What must hold
after each: every step-* directory that counts as a checkpoint loads, and the newest one is not older than before. status.json says
what is so: `running` after a kill (and the lock is free), `interrupted` with a checkpoint and exit code 128 + N after a signal N. A
signal in the first moments, before a process has touched the run, may end it as the system does, which a shell reports as 128 + N, too. What
must hold in the end: `--resume` finishes every run that has a resolved.yaml, from its newest checkpoint or from the start; the end is
the same to the bit (tensors, random streams, metrics except what the machine measures, pictures, mesh); each step stands once in
metrics.jsonl; no temporary file is left; status.json says `finished`, and all files that it names are there. Exits 0 when all of that
holds. Finds `dfw` on PATH.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from processes import FIELD, PIXELS, Process, die_at, points_of, warm, with_dfws_python

with_dfws_python()

from ends import checkpoints, leftovers, newest_whole, outcome, whole

from dfw.runs.directory import RunDirectory
from dfw.runs.lock import is_locked


def only_run(folder: Path) -> Path | None:
    found = sorted((folder / "runs" / "crash").glob("*")) if (folder / "runs" / "crash").is_dir() else []
    return found[-1] if found else None


def standing(run: Path | None) -> tuple[str, int] | None:
    """What status.json says, and how many resumes have loaded the run. None before there is a run."""
    if run is None or not (run / "resolved.yaml").is_file():
        return None
    files = RunDirectory(run)
    return str(files.read_json("status.json").get("status")), len(files.read_json("manifest.json").get("resumed", ()))


class Bench:
    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.tried, self.kills = Counter(), Counter()
        self.failures: list[tuple[str, str]] = []
        self.notes: Counter[str] = Counter()
        self.number = 0
        self.reference: dict[str, dict[str, object]] = {}
        self.seconds: dict[str, float] = {}
        self.points: dict[str, int] = {}

    def fail(self, what: str, detail: str) -> None:
        self.failures.append((what, detail))
        print(f"FAILED {what}: {detail}", flush=True)

    def place(self, kind: str) -> Path:
        self.number += 1
        folder = self.root / f"{self.number:04d}-{kind}"
        folder.mkdir()
        (folder / "c.yaml").write_text(PIXELS if kind.startswith("pixels") else FIELD)
        return folder

    def make_reference(self, kind: str) -> None:
        folder = self.place(kind)
        process = Process(["run", "c.yaml"], folder, folder / "log", die_at(0, folder / "runs"))
        code = process.wait()
        assert code == 0, process.text
        run = only_run(folder)
        assert run is not None
        self.reference[kind], self.seconds[kind], self.points[kind] = outcome(run), process.seconds, points_of(folder / "runs")
        # a stopped run to resume: killed once it has a checkpoint, and one killed after its last step
        for name, point_share in (("middle", 0.55), ("end", None)):
            target = self.place(kind)
            if point_share is not None:
                process = Process(
                    ["run", "c.yaml"], target, target / "log", die_at(int(self.points[kind] * point_share), target / "runs")
                )
                process.wait()
            else:
                shutil.rmtree(target)
                shutil.copytree(folder, target)
                (only_run(target) / "report.html").unlink()
                files = RunDirectory(only_run(target))
                files.write_json(
                    "status.json", files.read_json("status.json") | {"status": "running", "artifacts": {}, "made": {}}
                )
                for path in (only_run(target) / "export").iterdir():
                    path.unlink()
            setattr(self, f"{kind}_{name}", target)
            counted = self.copy(target)
            process = Process(["run", "--resume", str(only_run(counted))], counted, counted / "log", die_at(0, counted / "runs"))
            assert process.wait() == 0, process.text
            self.points[f"{kind}_{name}"] = points_of(counted / "runs")

    def copy(self, source: Path) -> Path:
        self.number += 1
        folder = self.root / f"{self.number:04d}-{source.name.split('-', 1)[1]}"
        shutil.copytree(source, folder)
        return folder

    def look(
        self, label: str, folder: Path, process: Process, code: int, before: int, was: tuple[str, int] | None = None
    ) -> None:
        """What must hold after each kill. `before`, `was`: the newest checkpoint's step and `standing` when the process began."""
        self.tried["ended before it was killed" if code in (0, 2) else "kills"] += 1
        run = only_run(folder)
        if code in (1, 99) or "Traceback" in process.text:
            self.fail("traceback", f"{label}: exit {code}: {process.text[-300:]}")
        if code == -1000:
            self.fail("hang", label)
        if run is None:
            return
        for path in checkpoints(run):
            if not whole(path):
                self.fail("torn checkpoint counts as complete", f"{label}: {path.name}: {sorted(p.name for p in path.iterdir())}")
        now = newest_whole(run)
        if now < before:
            self.fail("newest checkpoint lost", f"{label}: had step {before}, has {now}")
        if is_locked(run):
            self.fail("locked after its process has ended", label)
        if not (run / "resolved.yaml").is_file():
            return
        try:
            said = json.loads((run / "status.json").read_text())["status"]
        except (OSError, ValueError, KeyError) as error:
            self.fail("status.json absent or torn", f"{label}: {error}")
            return
        # Before it locks the run, and after it has said how it ended, a killed process leaves the status that there was.
        right = {0: {"finished"}, 2: {"finished"}}.get(
            code, {"running", "interrupted", "finished"} if code < 0 else {"interrupted"}
        )
        if code > 2 and was is not None and standing(run) is not None and standing(run)[1] == was[1]:
            right = {was[0], "interrupted"}  # a resume that a signal ended before it had loaded the run leaves its status
        if said not in right:
            self.fail("status.json", f"{label}: exit {code}, {said}")
        if said == "finished" and not (run / "report.html").is_file():
            self.fail("status.json says finished, no report", f"{label}: exit {code}")

    def settle(self, label: str, kind: str, folder: Path) -> None:
        """Resumes to the end and compares."""
        self.tried["resumes compared"] += 1
        run = only_run(folder)
        if run is None or not (run / "resolved.yaml").is_file():
            self.tried["killed before there was a run"] += 1
            if run is not None:
                process = Process(["run", "--resume", str(run)], folder, folder / "log2")
                code = process.wait()
                if code != 2 or process.text.count("error: ") != 1 or "Traceback" in process.text:
                    self.fail("resume of what is not a run: no clean refusal", f"{label}: exit {code}: {process.text[-300:]}")
            return
        if not checkpoints(run):
            self.tried["begun again without a checkpoint"] += 1
        process = Process(["run", "--resume", str(run)], folder, folder / "log2")
        code, text = process.wait(), process.text
        if code == 2 and "already finished" in text:
            code = 0
        if code != 0:
            self.fail("resume failed", f"{label}: exit {code}: {text[-400:]}")
            return
        got, wanted = outcome(run), self.reference[kind]
        wrong = sorted(k for k in wanted if k not in got or got[k] != wanted[k])
        if wrong:
            self.fail("other bits", f"{label}: {wrong}")
        extra = sorted(k for k in got if k not in wanted)
        if extra:
            self.notes[f"files besides: {', '.join(extra)[:60]}"] += 1
        steps = [row["step"] for row in got["metrics"]]
        if steps != list(range(len(steps))):
            self.fail("steps of metrics.jsonl", f"{label}: {steps}")
        empty = [str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and not p.stat().st_size]
        if empty:
            self.fail("empty files left in a run that finished", f"{label}: {empty}")
        left = leftovers(run)
        if left:
            self.fail("temporary files left after a resume that finished", f"{label}: {left}")
        said = json.loads((run / "status.json").read_text())
        if said["status"] != "finished" or not all((run / path).exists() for path in said["artifacts"].values()):
            self.fail("status.json at the end", f"{label}: {said}")

    def io(self, kind: str, point: int) -> None:
        folder = self.place(kind)
        label = f"{kind}: kill -9 before file operation {point}/{self.points[kind]} of run ({folder.name})"
        process = Process(["run", "c.yaml"], folder, folder / "log", die_at(point, folder / "runs"))
        self.look(label, folder, process, process.wait(), 0)
        self.settle(label, kind, folder)
        self.tidy(folder)

    def io_resume(self, kind: str, where: str, point: int) -> None:
        folder = self.copy(getattr(self, f"{kind}_{where}"))
        label = f"{kind}: kill -9 before file operation {point}/{self.points[f'{kind}_{where}']} of a resume at its {where} ({folder.name})"
        before = newest_whole(only_run(folder))
        process = Process(["run", "--resume", str(only_run(folder))], folder, folder / "log", die_at(point, folder / "runs"))
        self.look(label, folder, process, process.wait(), before)
        self.settle(label, kind, folder)
        self.tidy(folder)

    def by_signal(self, kind: str) -> None:
        folder = self.place(kind)
        arguments = ["run", "c.yaml"]
        labels = []
        for _ in range(self.random.choice((1, 1, 2, 3))):
            how = self.random.choice(("KILL", "TERM", "HUP", "INT", "INT INT"))
            before, was = newest_whole(only_run(folder)), standing(only_run(folder))
            process = Process(arguments, folder, folder / "log")
            after = self.random.uniform(0, self.seconds[kind])
            time.sleep(after)
            for name in how.split():
                process.signal(getattr(signal, f"SIG{name}"))
                time.sleep(self.random.choice((0, 0.01, 0.05)))
            code = process.wait()
            self.kills[f"{how} -> exit {code}"] += 1
            if code in (0, 2):
                self.seconds[kind] *= 0.8  # other work on the machine has ended since the reference was made
            labels.append(f"{how} after {after:.2f} s, exit {code}")
            label = f"{kind}: {'; '.join(labels)} ({folder.name})"
            self.look(label, folder, process, code, before, was)
            run = only_run(folder)
            expected = {"INT": 130, "TERM": 143, "HUP": 129}.get(how)
            early = expected and code == 128 - expected and standing(run) == was  # before it could handle signals, it did nothing
            if expected and run is not None and code not in (0, expected) and not early:
                if not (code == 2 and "already finished" in process.text):
                    self.fail("a signal's exit code", f"{label}: {process.text[-200:]}")
            if (
                expected
                and code == expected
                and run is not None
                and (run / "resolved.yaml").is_file()
                and "to continue" not in process.text
            ):
                self.fail("no word of how to go on", f"{label}: {process.text[-200:]}")
            if run is None or not (run / "resolved.yaml").is_file():
                break
            arguments = ["run", "--resume", str(run)]
        self.settle(f"{kind}: {'; '.join(labels)} ({folder.name})", kind, folder)
        self.tidy(folder)

    def export(self, point: int, total: int) -> None:
        folder = self.copy(self.finished)
        run = only_run(folder)
        held = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        label = f"field: kill -9 before file operation {point}/{total} of dfw export ({folder.name})"
        process = Process(["export", str(run)], folder, folder / "log", die_at(point, folder / "runs"))
        process.wait()
        self.tried["kills"] += 1
        changed = [str(p.relative_to(run)) for p, data in held.items() if not p.is_file() or p.read_bytes() != data]
        if changed:
            self.fail("export changed files of the run", f"{label}: {changed}")
        process = Process(["export", str(run)], folder, folder / "log2")
        code = process.wait()
        if code:
            self.fail("export after a killed export", f"{label}: exit {code}: {process.text[-200:]}")
        torn = [p for p in run.rglob("*") if p.is_file() and p.stat().st_size == 0 and "export" in str(p.relative_to(run))]
        if torn:
            self.fail("empty files left by a killed export", f"{label}: {[str(p.relative_to(run)) for p in torn]}")
        self.tidy(folder)

    def tidy(self, folder: Path) -> None:
        if not any(folder.name in detail for _, detail in self.failures):
            shutil.rmtree(folder, ignore_errors=True)


def spread(total: int, count: int, chance: random.Random) -> list[int]:
    """One point by chance in each of `count` equal parts, so that another seed kills at other operations."""
    return sorted({1 + min(int((part + chance.random()) * total / count), total - 1) for part in range(min(count, total))})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", default="io,resume,random,export")
    options = parser.parse_args()
    root = options.keep or Path(tempfile.mkdtemp(prefix="dfw-crash-"))
    root.mkdir(parents=True, exist_ok=True)
    warm()
    bench = Bench(root, options.seed)
    kinds = ["pixels", "field"]
    for kind in kinds:
        bench.make_reference(kind)
    print(f"file operations that can be killed at: {bench.points}; seconds of a run: {bench.seconds}", flush=True)
    parts, count = options.only.split(","), options.count
    if "io" in parts:
        for point in spread(bench.points["pixels"], count * 2 // 9, bench.random):
            bench.io("pixels", point)
        for point in spread(bench.points["field"], count // 12, bench.random):
            bench.io("field", point)
    if "resume" in parts:
        for where in ("middle", "end"):
            for point in spread(bench.points[f"pixels_{where}"], count // 9, bench.random):
                bench.io_resume("pixels", where, point)
            for point in spread(bench.points[f"field_{where}"], count // 30, bench.random):
                bench.io_resume("field", where, point)
    if "random" in parts:
        for number in range(count // 4):
            bench.by_signal(kinds[number % 6 == 5])
    if "export" in parts:
        folder = bench.place("field")
        process = Process(["run", "c.yaml"], folder, folder / "log")
        assert process.wait() == 0
        bench.finished = folder
        counted = bench.copy(folder)
        process = Process(["export", str(only_run(counted))], counted, counted / "log", die_at(0, counted / "runs"))
        assert process.wait() == 0, process.text
        total = points_of(counted / "runs")
        for point in spread(total, count // 12, bench.random):
            bench.export(point, total)
    groups = Counter(what for what, _ in bench.failures)
    print(f"signals: {dict(bench.kills)}\nnotes: {dict(bench.notes)}\nfailed: {dict(groups)}")
    if options.keep is None and not bench.failures:
        shutil.rmtree(root, ignore_errors=True)
    elif bench.failures:
        print(f"kept in {root}")
    print(f"ended before they were killed: {bench.tried['ended before it was killed']}")
    print(f"crash: {bench.tried['kills']} kills, {bench.tried['resumes compared']} ends compared, {len(bench.failures)} failures")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
