#!/usr/bin/env python3
"""Damages every file of a run directory, one at a time, and tries `dfw run --resume`, `dfw export` and `dfw render` on it.

    python corrupt.py [COUNT] [--seed N] [--keep DIR]

COUNT damages (default 150), each of one file: a flipped bit, a truncation, zeroed bytes, emptied, removed, replaced by a folder, filled with
noise, exchanged for the same file of another run. After each: one sentence and exit code 2 (or 3, 4), or an end that is the same to the bit
as without damage (the damage was harmless, or an older checkpoint was taken). A traceback, exit code 1, a crash or an end that differs
without a word is a failure. Exits 0 when there is none. Finds `dfw` on PATH.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from processes import FIELD, PIXELS, Process, die_at, warm, with_dfws_python

with_dfws_python()

from crash import checkpoints, only_run, outcome  # noqa: E402

DAMAGES = ("flip", "flip", "flip", "truncate", "cut-one", "zero", "empty", "remove", "folder", "noise", "other-run", "append")


def damage(path: Path, how: str, rng: random.Random, other: Path | None) -> str:
    data = bytearray(path.read_bytes())
    if how == "flip":
        if not data:
            return "nothing"
        # half of the flips of a safetensors go to its payload, half to its header
        at = rng.randrange(len(data))
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        return f"bit {bit} of byte {at}/{len(data)}"
    if how == "truncate":
        keep = rng.randrange(len(data) + 1)
        path.write_bytes(data[:keep])
        return f"{keep} of {len(data)} bytes kept"
    if how == "cut-one":
        path.write_bytes(data[:-1])
        return "last byte gone"
    if how == "zero":
        at = rng.randrange(len(data) or 1)
        size = min(rng.choice((1, 16, 512, 4096)), len(data) - at)
        data[at : at + size] = bytes(size)
        path.write_bytes(data)
        return f"{size} bytes from {at} zeroed"
    if how == "empty":
        path.write_bytes(b"")
    elif how == "remove":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "noise":
        path.write_bytes(rng.randbytes(len(data)))
    elif how == "append":
        path.write_bytes(bytes(data) + rng.randbytes(40))
    elif how == "other-run":
        if other is None or not other.is_file():
            return "nothing"
        path.write_bytes(other.read_bytes())
    return how


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    root = options.keep or Path(tempfile.mkdtemp(prefix="dfw-corrupt-"))
    root.mkdir(parents=True, exist_ok=True)
    warm()
    rng = random.Random(options.seed)
    sources: dict[str, Path] = {}
    wanted: dict[tuple[str, str], object] = {}

    def make(name: str, text: str, *more: str, before=None) -> Path:
        folder = root / name
        folder.mkdir()
        (folder / "c.yaml").write_text(text)
        process = Process(["run", "c.yaml", *more], folder, folder / "log", before)
        process.wait()
        return folder

    def result(verb: str, folder: Path) -> tuple[int, str, object]:
        run = only_run(folder)
        arguments = {"resume": ["run", "--resume", str(run)], "export": ["export", str(run), "--out", str(folder / "out")], "render": ["render", str(run), "--out", str(folder / "out.webp")]}[verb]  # fmt: skip
        process = Process(arguments, folder, folder / "log2")
        code = process.wait()
        if code:
            return code, process.text, None
        try:
            if verb == "resume":
                return code, process.text, outcome(run)
            if verb == "export":
                return code, process.text, {p.name: p.read_bytes() for p in sorted((folder / "out").iterdir())}
            return code, process.text, (folder / "out.webp").read_bytes()
        except Exception as error:
            return code, process.text, f"unreadable: {type(error).__name__}: {error}"

    # a stopped run, with two checkpoints; and the same of another seed, to exchange files with
    from processes import points_of

    for kind, text in (("pixels", PIXELS), ("field", FIELD)):
        counted = make(f"count-{kind}", text, before=die_at(0, root / f"count-{kind}" / "runs"))
        point = int(points_of(counted / "runs") * 0.72)
        sources[kind] = make(f"source-{kind}", text, before=die_at(point, root / f"source-{kind}" / "runs"))
        sources[f"{kind} other"] = make(f"other-{kind}", text, "seed=1", before=die_at(point, root / f"other-{kind}" / "runs"))
        (only_run(sources[kind]) / "status.json").write_text(
            '{"status": "interrupted", "step": 9, "steps": 12, "seconds": 1, "diagnosis": ""}'
        )
        for verb in ("resume", "export", "render"):
            if (kind, verb) in (("pixels", "export"),):
                continue
            copy = root / f"wanted-{kind}-{verb}"
            shutil.copytree(sources[kind], copy)
            code, said, found = result(verb, copy)
            assert code == 0, said
            wanted[kind, verb] = found
    verdicts: Counter[str] = Counter()
    failures: list[str] = []
    table: Counter[tuple[str, str]] = Counter()
    tried = 0
    while tried < options.count:
        kind = "pixels" if rng.random() < 0.7 else "field"
        source = sources[kind]
        run = only_run(source)
        files = sorted(p for p in run.rglob("*") if p.is_file())
        newest = checkpoints(run)[-1]
        files += [p for p in files if p.parent == newest] * 3 + [p for p in files if p.parent == run]
        target = rng.choice(files)
        relative = target.relative_to(run)
        how = rng.choice(DAMAGES)
        verb = "resume" if kind == "pixels" or rng.random() < 0.5 else rng.choice(("export", "render"))
        if kind == "pixels" and rng.random() < 0.2:
            verb = "render"
        folder = root / f"{tried:04d}"
        shutil.copytree(source, folder)
        other = only_run(sources[f"{kind} other"])
        detail = damage(only_run(folder) / relative, how, rng, other / relative if other else None)
        if detail == "nothing":
            shutil.rmtree(folder)
            continue
        tried += 1
        code, said, found = result(verb, folder)
        label = f"{kind}: {relative}: {how} ({detail}), then {verb}"
        group = (
            str(relative)
            if relative.parts[0] != "checkpoints"
            else f"{'newest' if relative.parts[1] == newest.name else 'older'} checkpoint/{relative.name}"
        )
        group = "images/*.png" if relative.parts[0] == "images" else group
        if code == 0:
            good = wanted[kind, verb]
            if relative.parts[0] == "images" and isinstance(found, dict):  # a preview is no result: it need not be noticed
                good, found = ({k: v for k, v in one.items() if k != str(relative)} for one in (good, found))
            same = found == good
            word = "harmless" if same else "SILENT"
            if not same and ("WARNING" in said or "error:" in said):
                word = "warned"
            if not same and isinstance(found, dict):
                label += f": differs in {sorted(k for k in good if found.get(k) != good[k])}"
            elif not same:
                label += f": {found if isinstance(found, str) else 'other bytes'}"
        elif "Traceback" in said or code in (1, 99) or code < 0:
            word = "TRACEBACK" if code >= 0 else "CRASH"
            label += f": exit {code}: {said.strip().splitlines()[-1][:160] if said.strip() else ''}"
        elif said.count("error: ") == 1:
            word = f"refused ({code})"
            if len(said) > 3000:
                word = "LONG MESSAGE"
                label += f": {len(said)} characters"
        else:
            word = f"NO MESSAGE ({code})"
            label += f": {said[-200:]}"
        table[group, word] += 1
        verdicts[word] += 1
        if word.isupper() or word.startswith("NO MESSAGE") or word == "LONG MESSAGE":
            failures.append(label)
            print(f"FAILED {word}: {label}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    for (group, word), count in sorted(table.items()):
        print(f"  {group:<45} {word:<16} {count}")
    if options.keep is None:
        shutil.rmtree(root, ignore_errors=True)
    print(f"corrupt: {tried} damages, {dict(verdicts)}, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
