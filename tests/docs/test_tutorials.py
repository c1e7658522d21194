"""The tutorials, block by block, in this process: their files, their commands and what these say."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import fresh_plugins
from tutorial import Page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["first-object", "objective", "prior", "loss", "study"])
def test_the_page_works_as_it_is_written(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    Page(f"tutorials/{name}.md").work_through_here(tmp_path, capsys)
