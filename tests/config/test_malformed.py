"""The fixed list of malformed configurations of tools/attack, and some hundred random ones: a sentence each, and no traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools" / "attack"
SLOW = ("extends-chain-1200", "300-losses", "10mb", "1mb")
"""Cases that the tool tries and that take seconds each here."""


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        import fuzz
    finally:
        sys.path.remove(str(TOOLS))
    return fuzz


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuzz: ModuleType) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFW_FUZZ_SECRET", fuzz.SECRET)


def failures(fuzz: ModuleType, cases: list[tuple[str, list[str]]]) -> dict[str, str]:
    found = {}
    for number, case in enumerate(cases):
        kind, details = fuzz.verdict(case, "show" if number % 4 == 0 else "validate", 60)
        if not kind.startswith("ok"):
            found[f"{number} {case}"[:300]] = f"{kind}: {details}"
    return found


def test_known_poison(fuzz: ModuleType, tmp_path: Path):
    cases = [case for case in fuzz.fixed_cases(tmp_path) if not any(name in case[0] for name in SLOW)]
    assert len(cases) > 200
    assert failures(fuzz, cases) == {}


def test_random_changes(fuzz: ModuleType, tmp_path: Path):
    random = fuzz.RandomCases(tmp_path, seed=7)
    found: dict[str, str] = {}
    for _ in range(400):
        found |= failures(fuzz, [random.next()])
    assert found == {}


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        ((0, "fine\n", ""), "ok0"),
        ((2, "", "error: x\n"), "ok2"),
        ((1, "", 'Traceback\n  File "/a/dfw/x.py", line 3, in f\nKeyError: 1\n'), 'traceback KeyError at /x.py", line 3, in f'),
        ((2, "", ""), "no message"),
        ((2, "", "error: " + "x" * 5000), "a long message"),
        ((2, "", "error: s3cr3t-7f1c"), "a variable of the environment is printed"),
        ((2, "", "error: \x1b[2J"), "a control character is printed"),
        ((9, "", "error: x"), "exit 9"),
    ],
)
def test_the_judge_sees_what_is_wrong(fuzz: ModuleType, ended: tuple[int, str, str], kind: str):
    assert fuzz.judge(*ended)[0] == kind
