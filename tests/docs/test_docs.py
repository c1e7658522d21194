"""The documentation says what the code says, and every page is in the navigation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from dfw import errors

ROOT = Path(__file__).parents[2]


GENERATE = [sys.executable, str(ROOT / "tools" / "docs" / "generate.py")]


def test_generated_pages_are_current() -> None:
    done = subprocess.run([*GENERATE, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_text_of_every_page_stands_in_the_repository() -> None:
    """A page must read well where no site is built."""
    stubs = [page.name for page in (ROOT / "docs").rglob("*.md") if re.search(r"^:::", page.read_text(encoding="utf-8"), re.M)]
    assert not stubs


def test_the_catalogue_of_errors_names_every_kind_with_its_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| [^|]* \| ([^|]*) \|$", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M)
    listed = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.DfwError)}
    assert listed == {name: kind.exit_code for name, kind in kinds.items() if kind is not errors.DfwError}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r'= "([\w/-]+\.md)"', navigation))
