"""The command line, called in this process."""

from __future__ import annotations

import pytest

from dfw.cli.main import cli, main
from dfw.plugins import listeners
from dfw.plugins.registry import registry


def fresh_plugins() -> None:
    """Forgets the verbs and files of plugins that another test brought."""
    cli._plugins_read = False
    cli.commands.clear()
    listeners._files.clear()
    registry()._entries = [entry for entry in registry().entries() if entry.distribution == "dreamfw"]


def run_dfw(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
