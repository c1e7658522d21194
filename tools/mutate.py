"""Changes one place of framework/ or plugins/ at a time; the tests near it must fail.

    git clone . ../mutants && cd ../mutants && python tools/mutate.py --seed 1 --count 200

It swaps an arithmetic or comparison operator, drops a `not`, or changes a number. Then it runs up to ten test files that name
the module or one of its classes, without those marked slow or browser, and stops at the first failure. It prints one line for
each mutant and the counts last, and exits with 1 where fewer than 90 % were killed. The sources are changed in place, so it
wants a clone. Torch, diffusers and pytest are imported once; each mutant is tested in a fork, which saves ten seconds for each.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SWAPPED: dict[type, str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
TURNED: dict[type, str] = {
    ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
LIMIT = 300  # seconds a mutant's tests may take: an endless loop counts as killed
ENOUGH = 0.9

Place = tuple[int, int, int, str]
"""Line, first byte, last byte and replacement."""


def places(source: str) -> Iterator[Place]:
    """Gives what can be changed. Leaves out annotations, raised messages and f-strings, which no test should pin."""
    tree, starts = ast.parse(source), [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))

    def first(node: ast.expr) -> int:
        return starts[node.lineno - 1] + node.col_offset

    def last(node: ast.expr) -> int:
        return starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts = (getattr(node, "annotation", None), getattr(node, "returns", None))
        for part in (*parts, node if isinstance(node, ast.JoinedStr | ast.Raise) else None):
            if isinstance(part, ast.AST):
                skipped.update(id(inner) for inner in ast.walk(part))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
            yield node.lineno, last(node.left), first(node.right), f" {SWAPPED[type(node.op)]} "
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in TURNED:
            yield node.lineno, last(node.left), first(node.comparators[0]), f" {TURNED[type(node.ops[0])]} "
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node.lineno, first(node), first(node.operand), ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            changed = node.value + 1 if node.value in (0, 1, 2, 3) else node.value * 2
            yield node.lineno, first(node), last(node), repr(changed)


def near(file: Path, source: str, tests: dict[Path, str]) -> list[Path]:
    """Returns the test files that name the module or a class of it, those named after it first."""
    names = [file.stem, *re.findall(r"^class (\w+)", source, re.MULTILINE)]
    found = [path for path, text in tests.items() if any(re.search(rf"\b{name}\b", text) for name in names)]
    return sorted(
        found, key=lambda path: (file.stem not in path.stem, file.parent.name.removeprefix("dfw_") != path.parent.name)
    )[:10]


def prepare(repository: Path) -> None:
    """Imports what tests import, except the code that is changed."""
    rooms = [repository / "framework", *sorted((repository / "plugins").iterdir())]
    sys.path[:0] = [str(room) for room in rooms]
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, rooms))
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True  # a mutant's bytecode must not outlive it
    import diffusers
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import torch._dynamo
    import transformers

    torch.set_num_threads(1)
    _ = (diffusers.UNet2DConditionModel, diffusers.AutoencoderKL, diffusers.DDIMScheduler, diffusers.StableDiffusionPipeline)
    _ = (transformers.CLIPTextModel, transformers.CLIPTokenizer)


def fails(repository: Path, tests: list[Path]) -> bool:
    """Runs `tests` in a fork. True when one fails, or when they take too long."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(repository)
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        import pytest

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not browser", *map(str, tests)])
        os._exit(int(code != 0))
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main() -> int:
    """Draws mutants and tests them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--skip", type=int, default=0, help="how many of the first mutants are not tested")
    parser.add_argument("--only", default="", help="only files whose path contains this text")
    options = parser.parse_args()
    repository = Path(__file__).resolve().parents[1]
    if subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True, check=True).stdout:
        parser.error("the checkout has changes, and mutants are written into its files; use a clean clone")
    prepare(repository)
    draw, killed, survived = random.Random(options.seed), 0, 0
    rooms = [path for room in ("framework", "plugins") for path in sorted((repository / room).rglob("*.py"))]
    files = [
        path for path in rooms if "testing" not in path.parts and not path.name.startswith("__") and options.only in str(path)
    ]
    tests = {path: path.read_text() for path in sorted((repository / "tests").rglob("test_*.py"))}
    drawn = 0
    while drawn < options.count:
        file = draw.choice(files)
        source = file.read_text()
        possible = list(places(source))
        if not possible:
            continue
        line, start, end, new = draw.choice(possible)
        raw = source.encode()
        mutant = raw[:start] + new.encode() + raw[end:]
        try:
            ast.parse(mutant)
        except SyntaxError:
            continue
        drawn += 1
        if drawn <= options.skip:
            continue
        chosen = near(file, source, tests)
        try:
            file.write_bytes(mutant)
            dead = bool(chosen) and fails(repository, chosen)
        finally:
            file.write_bytes(raw)
        killed, survived = killed + dead, survived + (not dead)
        before, after = (text.decode().splitlines()[line - 1].strip()[:90] for text in (raw, mutant))
        verdict = "killed" if dead else "SURVIVED"
        print(f"{verdict} {file.relative_to(repository)}:{line} [{before}] -> [{after}] ({len(chosen)} test files)", flush=True)
    print(f"{killed} of {killed + survived} killed")
    return int(killed < ENOUGH * (killed + survived))


if __name__ == "__main__":
    sys.exit(main())
