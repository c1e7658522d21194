"""Test files of kits: the command line runs them as pytest does, or says what it leaves to pytest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_testing import PLUGIN, raising

from dfw.testing import run_checks
from dfw.testing.files import kits_in
from dfw.testing.outcomes import expecting_failure, plain

pytest_plugins = ["pytester"]

LOSS = PLUGIN.format(reduce="mean", default=" = 1.0").replace('dfw.register("loss", "bright", Bright)', "")


@pytest.fixture(autouse=True)
def imports_stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith(("dfw_tests_", "shared_bits")):
            del sys.modules[name]


def outcomes(path: Path, source: str, only: str = "TestBright") -> dict[str, tuple[str, str]]:
    """Check -> status and reason, of one class of a file, as the command line finds them."""
    path.write_text(f"{source.partition('----')[0]}{LOSS}\nfrom dfw.testing import LossTests\n{source.partition('----')[2]}")
    (kit,) = [kit for kit in kits_in(path) if kit.__name__ == only]
    return {outcome.check: (outcome.status, outcome.reason) for outcome in run_checks(kit)}


def test_a_dataclass_finds_its_annotations(tmp_path: Path) -> None:
    source = """from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Case:
    size: int = 1
----
class TestBright(LossTests):
    component = Bright
    size = Case().size
"""
    assert "failed" not in {status for status, _ in outcomes(tmp_path / "test_case.py", source).values()}


def test_a_file_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "shared_bits.py").write_text("STRENGTH = 2.0\n")
    body = "class TestBright(LossTests):\n    component, options = Bright, {'strength': STRENGTH}\n"
    source = f"from shared_bits import STRENGTH\n----{body}"
    assert outcomes(tmp_path / "test_near.py", source)["test_scalar"] == ("passed", "")


INHERITED = """
----
class Sum(Bright):
    def forward(self, inputs):
        return inputs.render.colour.sum()

class TestSum(LossTests):
    component = Sum
    expected_failures = {"test_any_batch_size": "adds up views"}

class TestBright(TestSum):
    component = Bright
    expected_failures = {}

class TestAgain(TestSum):
    def test_any_batch_size(self):
        super().test_any_batch_size()
"""


def test_a_subclass_says_anew_what_is_to_fail(tmp_path: Path, pytester: pytest.Pytester) -> None:
    """`expected_failures = {}`: nothing is to fail; an override is to fail as what it overrides. By both runners."""
    names = ("TestSum", "TestBright", "TestAgain")
    found = {name: outcomes(tmp_path / f"test_{name}.py", INHERITED, name)["test_any_batch_size"][0] for name in names}
    assert found == {"TestSum": "expected failure", "TestBright": "passed", "TestAgain": "expected failure"}
    pytester.makepyfile(test_inherited=(tmp_path / "test_TestSum.py").read_text())
    ran = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "any_batch_size")
    ran.assert_outcomes(passed=1, xfailed=2)


def test_what_only_pytest_runs_is_left_to_it(tmp_path: Path) -> None:
    source = """import pytest
----
class TestBright(LossTests):
    component = Bright

    def test_folder(self, tmp_path):
        assert tmp_path

    @pytest.mark.parametrize("size", [1, 2])
    def test_sizes(self, size):
        assert size

    @pytest.mark.skip(reason="slow")
    def test_deterministic(self):
        raise AssertionError
"""
    found = outcomes(tmp_path / "test_own.py", source)
    assert Counter(status for status, _ in found.values())["failed"] == 0
    assert found["test_folder"] == ("skipped", "only pytest gives it tmp_path; run `python -m pytest` on this file")
    assert "pytest.mark.parametrize" in found["test_sizes"][1]
    assert found["test_deterministic"][0] == "skipped"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("def setup_method(self):\n        self.size = 1", "setup_method"),
        ("@pytest.fixture(autouse=True)\n    def folder(self, tmp_path):\n        self.at = tmp_path", "the fixture folder"),
        ("pytestmark = pytest.mark.usefixtures('tmp_path')", "pytest.mark.usefixtures"),
    ],
)
def test_a_class_that_pytest_prepares_fails_once_in_one_sentence(tmp_path: Path, body: str, named: str) -> None:
    source = f"import pytest\n----\nclass TestBright(LossTests):\n    component = Bright\n    {body}\n"
    ((check, (status, reason)),) = outcomes(tmp_path / "test_setup.py", source).items()
    assert (check, status) == ("all checks", "failed")
    assert reason.startswith(f"only pytest runs {named}, ")
    assert "python -m pytest" in reason


def test_classes_that_pytest_leaves_out_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "test_base.py"
    classes = "class TestBase(LossTests):\n    __test__ = False\n\nclass TestMine(TestBase):\n    __test__ = True\n"
    path.write_text(f"from dfw.testing import LossTests\n{classes}")
    assert [kit.__name__ for kit in kits_in(path)] == ["TestMine"]


def test_the_check_under_an_expected_failure_is_kept() -> None:
    check = raising(ValueError())
    assert plain(expecting_failure(check, "known")) is check
    assert plain(check) is check
