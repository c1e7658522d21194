"""Changes one place of framework/ or plugins/ at a time; a test that runs this place must fail.

    git clone . ../mutants && cd ../mutants && python tools/mutate.py --seed 1 --count 200

It swaps an arithmetic or comparison operator, drops a `not`, or changes a number. Then it runs the tests that pass through that
line, without those marked slow or browser: those of files named after the module first, then the fastest, and stops at the first
failure. `--patience` bounds them; try survivors again with more of it (`--numbers`). It prints one line for each mutant and the
counts last, and exits with 1 where fewer than 90 % were killed.

Which test passes through which line is measured once, with pytest-cov, and kept in the clone (`.coverage`, `durations.xml`). A
line that runs on import alone, such as a constant, is tested by those that run any line of its module. The sources are changed in
place, so it wants a clone. Torch, diffusers and pytest are imported once; each mutant is tested in a fork.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

SWAPPED: dict[type, str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
TURNED: dict[type, str] = {
    ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
MORE, MEMORY = 100, 8 * 2**30  # seconds of processor time beyond `--patience`, and bytes: an endless loop counts as killed
MAP, DURATIONS = ".coverage", "durations.xml"
ENOUGH = 0.9

Place = tuple[int, int, int, int, str]
"""The statement's first line, the place's line, its first byte, its last byte, and the replacement."""


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
    statement: dict[int, int] = {}  # a node -> the first line of the innermost statement around it
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            statement |= {id(inner): node.lineno for inner in ast.walk(node)}
        parts = (getattr(node, "annotation", None), getattr(node, "returns", None))
        for part in (*parts, node if isinstance(node, ast.JoinedStr | ast.Raise) else None):
            if isinstance(part, ast.AST):
                skipped.update(id(inner) for inner in ast.walk(part))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
            yield statement[id(node)], node.lineno, last(node.left), first(node.right), f" {SWAPPED[type(node.op)]} "
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in TURNED:
            yield statement[id(node)], node.lineno, last(node.left), first(node.comparators[0]), f" {TURNED[type(node.ops[0])]} "
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield statement[id(node)], node.lineno, first(node), first(node.operand), ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            changed = node.value + 1 if node.value in (0, 1, 2, 3) else node.value * 2
            yield statement[id(node)], node.lineno, first(node), last(node), repr(changed)


class Tests:
    """Which tests pass through which line, and how long each takes."""

    def __init__(self, repository: Path) -> None:
        import coverage

        self.repository = repository
        self.data = coverage.CoverageData(str(repository / MAP))
        self.data.read()
        self.seconds = dict(_durations(repository / DURATIONS))

    def through(self, file: Path, first: int, last: int, patience: float) -> list[str]:
        """Returns the tests of these lines in the order in which they are tried, as many as take `patience` seconds."""
        found = self.data.contexts_by_lineno(str(file))
        names = {name for line in range(first, last + 1) for name in found.get(line, ())}
        tests = {name.partition("|")[0] for name in names} & self.seconds.keys()
        if not tests or "" in names:  # it runs on import
            tests = {name.partition("|")[0] for names in found.values() for name in names} & self.seconds.keys()
        stem, room = file.stem, file.parent.name.removeprefix("dfw_")

        def order(test: str) -> tuple[bool, bool, float]:
            path = Path(test.partition("::")[0])
            return stem not in path.stem, room != path.parent.name, self.seconds[test]

        chosen, spent = [], 0.0
        for test in sorted(tests, key=order):
            spent += self.seconds[test]
            if spent > patience and chosen:
                break
            chosen.append(test)
        return chosen


def _durations(path: Path) -> Iterator[tuple[str, float]]:
    """Gives each test that passed, with its seconds."""
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            continue
        file = case.attrib["file"]
        classes = case.attrib["classname"].removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
        yield "::".join(filter(None, (file, classes.replace(".", "::"), case.attrib["name"]))), float(case.attrib["time"])


def measure(repository: Path, processes: int) -> None:
    """Runs the tests once, and writes which lines each runs. One that fails is not used later."""
    parallel = ["-n", str(processes), "--dist", "loadfile"] if processes > 1 else []
    chosen = ["-q", "-m", "not slow and not browser", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", *parallel]
    recorded = ["--cov=framework", "--cov=plugins", "--cov-context=test", "--cov-report=", f"--junitxml={DURATIONS}"]
    subprocess.run([sys.executable, "-m", "pytest", *chosen, *recorded, "tests"], cwd=repository, check=False)


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


def fails(repository: Path, tests: list[str], limit: int) -> bool:
    """Runs `tests` in a fork. True when one fails, or when they take more than `limit` seconds of processor time."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.chdir(repository)
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        import pytest

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:pytest_cov", "-W", "ignore", *tests])
        os._exit(int(code != 0))
    end = time.monotonic() + 5 * limit  # one that sleeps uses no processor time
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
    parser.add_argument("--numbers", default="", help="test only these of the mutants, such as 3,17: those that survived before")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds of tests that a mutant is tried with")
    parser.add_argument("--processes", type=int, default=2, help="of pytest-xdist, for the measurement")
    parser.add_argument("--only", default="", help="only files whose path contains this text")
    options = parser.parse_args()
    repository = Path(__file__).resolve().parents[1]
    if subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True, check=True).stdout:
        parser.error("the checkout has changes, and mutants are written into its files; use a clean clone")
    prepare(repository)
    if not (repository / MAP).is_file() or not (repository / DURATIONS).is_file():
        measure(repository, options.processes)
    tests = Tests(repository)
    wanted = {int(number) for number in options.numbers.split(",") if number}
    draw, killed, survived = random.Random(options.seed), 0, 0
    rooms = [path for room in ("framework", "plugins") for path in sorted((repository / room).rglob("*.py"))]
    files = [
        path for path in rooms if "testing" not in path.parts and not path.name.startswith("__") and options.only in str(path)
    ]
    drawn = 0
    while drawn < options.count:
        file = draw.choice(files)
        source = file.read_text()
        possible = list(places(source))
        if not possible:
            continue
        first, line, start, end, new = draw.choice(possible)
        raw = source.encode()
        mutant = raw[:start] + new.encode() + raw[end:]
        try:
            ast.parse(mutant)
        except SyntaxError:
            continue
        drawn += 1
        if wanted and drawn not in wanted:
            continue
        chosen = tests.through(file, min(first, line), line, options.patience)
        try:
            file.write_bytes(mutant)
            dead = bool(chosen) and fails(repository, chosen, MORE + int(options.patience))
        finally:
            file.write_bytes(raw)
        killed, survived = killed + dead, survived + (not dead)
        before, after = (text.decode().splitlines()[line - 1].strip()[:90] for text in (raw, mutant))
        verdict = "killed" if dead else "SURVIVED"
        print(
            f"{drawn:4d} {verdict} {file.relative_to(repository)}:{line} [{before}] -> [{after}] ({len(chosen)} tests)",
            flush=True,
        )
    print(f"{killed} of {killed + survived} killed")
    return int(killed < ENOUGH * (killed + survived))


if __name__ == "__main__":
    sys.exit(main())
