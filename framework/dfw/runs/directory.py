"""The run directory is made once and never overwritten. Every file in it is written whole or not at all."""

from __future__ import annotations

import json
import logging
import platform
import re
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dfw.atomic import new_folder, write_text
from dfw.errors import CheckpointError, ConfigError

LIBRARIES = ("dreamfw", "torch", "diffusers", "transformers", "accelerate", "warp-lang", "nerfacc", "numpy", "PyMCubes", "xatlas")


def slug(prompt: str) -> str:
    """Turns a prompt into a file name: lower case, words joined by dashes, at most 40 characters."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].rstrip("-") or "prompt"


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that influence a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found


def run_path(output: str, name: str, prompt: str, seed: int) -> Path:
    """Returns where a run is made: `output/name/<prompt>-<seed>-<time>`."""
    return Path(output) / name / f"{slug(prompt or name)}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def new_run_folder(path: Path) -> Path:
    """Makes the folder `path`, or a numbered one where that exists. Raises ConfigError if it cannot be made."""
    try:
        return new_folder(path.absolute())
    except OSError as error:
        raise ConfigError(f"output: cannot make {path}: {error.strerror}; name a folder that you may write to") from error


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path = path.absolute()  # a component may change the current directory
        self.checkpoints = path / "checkpoints"
        self.images = path / "images"
        self.export = path / "export"
        self.metrics = path / "metrics.jsonl"
        self.report = path / "report.html"
        self.log = path / "run.log"
        self.resolved = path / "resolved.yaml"

    @staticmethod
    def create(output: str, name: str, prompt: str, seed: int, path: Path | None = None) -> RunDirectory:
        """Makes a new directory `output/name/<prompt>-<seed>-<time>`, or `path`, with a number added if that exists.

        Raises ConfigError if the directory cannot be made.
        """
        run = RunDirectory(new_run_folder(path or run_path(output, name, prompt, seed)))
        for folder in (run.checkpoints, run.images, run.export):
            folder.mkdir()
        return run

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """Opens an existing run. Of a run with stages it opens the last one that has started.

        Raises CheckpointError if `path` is not a run directory.
        """
        run = RunDirectory(path)
        begun = stage_directories(path)
        if begun and not run.resolved.is_file():
            return RunDirectory.open(begun[-1])
        if not run.resolved.is_file():
            raise CheckpointError(f"{path}: not a run directory (no resolved.yaml); give the folder that `dfw run` printed")
        for folder in (run.checkpoints, run.images, run.export):
            folder.mkdir(exist_ok=True)
        return run

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes `name` (manifest.json, status.json) atomically."""
        write_text(self.path / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def update_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Adds or replaces the keys of `value` in `name`."""
        self.write_json(name, self.read_json(name) | dict(value))

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads `name`. Returns an empty mapping if it does not exist."""
        path = self.path / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns all rows of metrics.jsonl. Skips an unfinished last line, which a killed process leaves."""
        if not self.metrics.is_file():
            return []
        text = self.metrics.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def truncate_metrics(self, step: int) -> None:
        """Drops the rows from `step` on, because a resumed run writes them again."""
        rows = [row for row in self.read_metrics() if row["step"] < step]
        write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))

    def previews(self) -> list[tuple[int, Path]]:
        """Returns (step, path) of the preview images, in order."""
        return [(int(path.stem.split("-")[1]), path) for path in sorted(self.images.glob("step-*.png"))]


STAGES = "stages.yaml"
"""File in the directory of a run with stages: stage -> its resolved configuration, in order."""


def stage_directories(path: Path) -> list[Path]:
    """Returns the directories of the stages that have started, in order: `1-coarse`, `1-coarse-2` (tried again), `2-refine`."""
    if not (path / STAGES).is_file():
        return []
    found = [below for below in path.glob("*-*") if (below / "resolved.yaml").is_file() and below.name.split("-")[0].isdigit()]
    return sorted(found, key=lambda below: (int(below.name.split("-")[0]), len(below.name), below.name))


class LogFile:
    """While open, the `dfw` logger also writes to run.log."""

    def __init__(self, path: Path) -> None:
        self._handler = logging.FileHandler(path, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> LogFile:
        logger = logging.getLogger("dfw")
        logger.setLevel(logging.INFO)
        logger.addHandler(self._handler)
        logger.info("command: %s", " ".join(sys.argv))
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("dfw").removeHandler(self._handler)
        self._handler.close()
