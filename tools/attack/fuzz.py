#!/usr/bin/env python3
"""Feeds malformed configurations, overrides and command lines to `dfw config validate` and `dfw config show`, in its own process.

    python fuzz.py [COUNT] [--seed N] [--keep DIR] [--seconds S] [--no-fixed]

COUNT cases (default 5,000), the fixed ones of malformed.py among them. Each is the same call as the command's,
`dfw.cli.main.main([...])`, under a limit of time and memory. What must hold: exit code 0, 2 or 3; where it is not 0, a message of at
most 15 lines and 4,000 characters, and no traceback; where `show` ends with 0, what it printed is a configuration that it prints the
same way; no control character and nothing of the environment in what is printed; never longer than S seconds of processor time
(default 10), never more than 3 GB. Exits 0 when all of that holds. Finds `dfw` on PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from processes import with_dfws_python

if __name__ == "__main__":
    with_dfws_python()

from malformed import SECRET, Case, RandomCases, fixed_cases

MEMORY = 3 * 2**30
BATCH = 500  # cases of one fork: what one of them leaves behind in the process cannot spoil more than these


def call(*arguments: str) -> tuple[int | str, str, str]:
    """Calls `dfw`; returns exit code, output and errors."""
    from dfw.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


def verdict(case: Case, verb: str, seconds: float) -> tuple[str, str]:
    """Runs one case; returns "ok", or what is wrong with it, and details."""

    def ring(*_: object) -> None:
        raise TimeoutError("too long")

    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        code, out, err = call("config", verb, *case[1])
        found = judge(code, out, err)
        if found == ("ok0", "") and verb == "show":
            Path("shown.yaml").write_text(out, encoding="utf-8")
            again = call("config", "show", "shown.yaml", *_plugins(case[1]))
            if again[:2] != (0, out):
                return "what is shown does not come back", f"{again[0]} {again[2][:200]} {out[:200]}"
        return found
    except TimeoutError:
        return "hang", f"longer than {seconds} s"
    except SystemExit as error:
        return "SystemExit", str(error.code)
    except BaseException as error:
        return f"escaped {type(error).__name__}", traceback.format_exc(limit=-2)[-600:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _plugins(arguments: list[str]) -> list[str]:
    at = arguments.index("--plugin") if "--plugin" in arguments else len(arguments)
    return arguments[at : at + 2]


def judge(code: int | str, out: str, err: str) -> tuple[str, str]:
    """Judges exit code and output of a call: "ok" with the code, or what is wrong, and details."""
    text = out + err
    if "TimeoutError: too long" in text:
        return "hang", "inside a handler"
    if "Traceback" in text or code == 1:
        last = [line for line in err.splitlines() if line and not line.startswith((" ", "\t"))][-1:] or ["?"]
        frames = [line.strip() for line in err.splitlines() if "/dfw" in line and line.strip().startswith("File")][-1:] or ["?"]
        return f"traceback {last[0].split(':')[0]} at {frames[0].split('/dfw')[-1]}", last[0][:300]
    if SECRET in text:
        return "a variable of the environment is printed", text[:200]
    if not all(one.isprintable() or one in "\n\t" for one in text):
        return "a control character is printed", ascii(text[:200])
    if code not in (0, 2, 3):
        return f"exit {code}", text[-200:]
    if code and "rror: " not in err:
        return "no message", text[-200:]
    if code and (len(err) > 4_000 or err.count("\n") > 15):
        return "a long message", f"{len(err)} characters: {err[:200]}"
    return f"ok{code}", ""


class Tally:
    """Counts verdicts, and keeps the files of failures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdicts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    @property
    def failures(self) -> dict[str, int]:
        """Kind of failure -> how many."""
        return {kind: count for kind, count in self.verdicts.items() if not kind.startswith("ok")}

    def add(self, case: Case, kind: str, details: str) -> None:
        """Counts one case; prints the first three failures of a kind."""
        self.verdicts[kind] += 1
        if kind.startswith("ok"):
            return
        place = ""
        if case[1] and case[1][0].endswith("fuzzed.yaml"):
            kept = self.folder / f"failed-{sum(self.failures.values())}.yaml"
            shutil.copy(case[1][0], kept)
            place = f" (kept as {kept})"
        arguments = " ".join(repr(text[:80]) for text in case[1])
        said = f"{case[0]}: dfw config ... {arguments}{place}: {details}"
        self.examples.setdefault(kind, []).append(said)
        if len(self.examples[kind]) <= 3:
            print(f"FAILED {kind}: {said}".encode("ascii", "backslashreplace").decode(), flush=True)


def run_here(cases: RandomCases | list[Case], count: int, seconds: float, writer: int) -> None:
    """Runs `count` cases under a limit of memory, and writes what came of each to the pipe `writer`."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    with os.fdopen(writer, "w") as pipe:
        for index in range(count):
            case = cases.next() if isinstance(cases, RandomCases) else cases[index]
            print(json.dumps(["begin", *case]), file=pipe, flush=True)
            print(json.dumps(["end", *verdict(case, "show" if index % 4 == 0 else "validate", seconds)]), file=pipe, flush=True)


def run_batch(cases: RandomCases | list[Case], count: int, tally: Tally, seconds: float) -> int:
    """Runs `count` cases in a fork with limits; returns how many were done: the one that kills the fork counts, and ends it."""
    reader, writer = os.pipe()
    state = cases.random.getstate() if isinstance(cases, RandomCases) else None
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            run_here(cases, count, seconds, writer)
        except BaseException:  # a mistake of this driver, which must not unwind into the parent's code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    done, open_case = 0, None
    with os.fdopen(reader) as pipe:
        for line in iter(pipe.readline, ""):
            kind, *rest = json.loads(line)
            if kind == "begin":
                open_case = rest
            elif open_case is not None:
                tally.add((open_case[0], open_case[1]), *rest)
                open_case, done = None, done + 1
    _, status = os.waitpid(pid, 0)
    if not done and open_case is None:
        raise RuntimeError("the driver failed before a case began")
    if open_case is not None:
        tally.add((open_case[0], open_case[1]), f"process died, {os.waitstatus_to_exitcode(status)}", "")
        done += 1
    if isinstance(cases, RandomCases):  # as far on as the fork came
        cases.random.setstate(state)
        for _ in range(done):
            cases.next()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-fixed", action="store_true", help="leave out the fixed list")
    options = parser.parse_args()
    os.environ["DFW_FUZZ_SECRET"] = SECRET
    folder = options.keep or Path(tempfile.mkdtemp(prefix="dfw-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for name in ("hifa", "vsd", "gaussian-2d"):  # imports what the forks then have
        call("config", "validate", name)
    fixed = [] if options.no_fixed else fixed_cases(folder)
    random_cases, tally, started, done = RandomCases(folder, options.seed), Tally(folder), time.monotonic(), 0
    for start in range(0, len(fixed), 12):
        rest = fixed[start : start + 12]
        while rest:
            count = run_batch(rest, len(rest), tally, options.seconds)
            rest, done = rest[count:], done + count
    while done < options.count:
        done += run_batch(random_cases, min(BATCH, options.count - done), tally, options.seconds)
        print(f"{done} cases, {time.monotonic() - started:.0f} s", flush=True)
    (folder / "failures.json").write_text(json.dumps(tally.examples, indent=1))
    print(f"verdicts: {dict(tally.verdicts.most_common())}")
    if not tally.failures and options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"kept in {folder}")
    kinds, failed = len(tally.failures), sum(tally.failures.values())
    print(f"fuzz: {done} cases ({len(fixed)} fixed) in {time.monotonic() - started:.0f} s, {failed} failures of {kinds} kinds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
