"""An environment like a user's: nothing of this checkout, only wheels. No index is asked; dependencies are borrowed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("dfw", "dreamfw", "_dreamfw", "__editable__")
"""How names begin that a fresh environment must not inherit: the framework, its plugins, extensions, editable installs."""


def build_wheel(project: Path, folder: Path) -> Path:
    """Builds the wheel of a hatchling project into `folder`, which holds no other."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    quiet = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, check=False, cwd=project, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def framework_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The framework's wheel, built once for all tests."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("framework"))


class Fresh:
    """A virtual environment in `place` with the third-party packages of the running one and nothing of ours."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.python = place / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        borrowed = place / "borrowed"
        borrowed.mkdir()
        for folder in [Path(path) for path in sys.path if Path(path).name == "site-packages"]:
            for entry in folder.iterdir():
                link = borrowed / entry.name
                if entry.suffix != ".pth" and not entry.name.lower().startswith(OURS) and not link.exists():
                    link.symlink_to(entry)
        (site,) = place.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(f"{borrowed}\n")

    def pip(self, *arguments: str | Path) -> None:
        """pip of the running environment, working on this one, without an index."""
        command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(self.python)]
        command += map(str, arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        assert done.returncode == 0, done.stderr

    def add_pip(self) -> None:
        """Gives it a `pip` of its own, which finds build backends in the environment, since there is no index to ask."""
        script = self.place / "bin" / "pip"
        script.write_text(f'#!/bin/sh\nexec "{self.python}" -m pip -q --disable-pip-version-check "$@" --no-build-isolation\n')
        script.chmod(0o755)

    def install(self, wheels: Sequence[Path]) -> None:
        """Installs wheels as they are."""
        self.pip("install", "--no-index", "--no-deps", *wheels)

    def run(self, *command: str | Path, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment in `cwd`; what it prints is in the message when the exit code is another one."""
        program = str(self.place / "bin" / str(command[0]))
        line = [program if Path(program).exists() else str(command[0]), *map(str, command[1:])]
        together = self.environment() | environment
        done = subprocess.run(line, check=False, cwd=cwd, capture_output=True, text=True, env=together, timeout=1800)
        assert done.returncode == code, f"{' '.join(line)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def environment(self) -> dict[str, str]:
        """The process's, with this environment activated and nothing said about plugins, trackers or import paths."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DFW_", "WANDB_", "PYTEST_")) and k != "PYTHONPATH"}
        path = f"{self.place / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return kept | {"PATH": path, "VIRTUAL_ENV": str(self.place), "PYTHONDONTWRITEBYTECODE": "1", "PIP_NO_INDEX": "1"}
