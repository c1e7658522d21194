"""The run directory is made once and never overwritten. Its files are written whole, and damage is noticed when they are read."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dfw.atomic import new_folder, sweep, unused, write_whole, writing
from dfw.config.paths import shown
from dfw.config.yaml_text import read_yaml
from dfw.errors import CheckpointError, ConfigError, one_line
from dfw.runs.checkpoint_folder import adopt, list_checkpoints, newest_checkpoint, number_of
from dfw.runs.metrics import cut_metrics, read_metrics
from dfw.runs.seal import finite, seal_of, sealed_json, sealed_text, unsealed_json
from dfw.text import printable

log = logging.getLogger("dfw.runs")


def slug(subject: str) -> str:
    """Turns what a run makes into a file name: lower case, words joined by dashes, at most 40 characters."""
    return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:40].rstrip("-") or "prompt"


def run_path(output: str, name: str, subject: str, seed: int) -> Path:
    """Returns where a run is made: `output/name/<subject>-<seed>-<time>`."""
    return Path(output) / name / f"{slug(subject)}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def new_run_folder(path: Path) -> Path:
    """Makes the folder `path`, or a numbered one where that exists. Raises ConfigError if it cannot be made."""
    try:
        return new_folder(path.absolute())
    except (OSError, ValueError) as error:
        broken = next((one for one in path.parents if os.path.islink(one) and not os.path.exists(one)), None)
        reason = error.strerror if isinstance(error, OSError) else "the name holds a NUL character"
        if broken is not None:
            reason = f"{broken} is a link to {broken.readlink()}, which is not there"
        raise ConfigError(
            f"output: cannot make {printable(shown(path))}: {reason}; name a folder that you may write to"
        ) from error


def enclosing_run(folder: Path) -> Path | None:
    """Returns the run that a folder is, or lies in; None where it is in none. A configuration alone makes no run."""
    above = (folder.absolute(), *folder.absolute().parents)
    begun = (one for one in above if any((one / name).is_file() for name in ("status.json", "run.lock")))
    return next((one for one in begun if any((one / name).is_file() for name in ("resolved.yaml", STAGES))), None)


def check_output(output: str) -> None:
    """Raises ConfigError for an output folder in another run, where nobody would find a run."""
    inside = enclosing_run(Path(output))
    if inside is not None:
        raise ConfigError(f"output={output}: is in the run {inside}, where a run would not be found; name another folder")


_CHANGED = "it is not as dfw wrote it: a person changed it, or it is damaged; it is used as it is now"


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
    def create(output: str, name: str, subject: str, seed: int, path: Path | None = None) -> RunDirectory:
        """Makes a new directory `output/name/<subject>-<seed>-<time>`, or `path`, with a number added if that exists.

        Raises ConfigError if the directory cannot be made.
        """
        run = RunDirectory(new_run_folder(path or run_path(output, name, subject, seed)))
        with writing(run.path, ConfigError, otherwise="name an output folder that you may write to"):
            for folder in (run.checkpoints, run.images, run.export):
                folder.mkdir()
        return run

    @staticmethod
    def find(path: Path) -> RunDirectory:
        """Finds an existing run. Of a run with stages it finds the last one that has started. Writes nothing.

        Raises CheckpointError if `path` is not a run directory.
        """
        run = RunDirectory(path)
        try:
            begun = stage_directories(path)
            if begun and not run.resolved.is_file():
                return RunDirectory.find(begun[-1])
            if not run.resolved.is_file():
                said = "not a run directory (no resolved.yaml); give the folder that `dfw run` printed"
                raise CheckpointError(f"{shown(path)}: {said}")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); give the folder that `dfw run` printed") from error
        return run

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """Finds an existing run, and warns if its configuration is not as the run wrote it. Raises CheckpointError as `find`."""
        run = RunDirectory.find(path)
        if not _seal(run.resolved):
            log.warning("%s: %s", run.resolved, _CHANGED)
        return run

    @property
    def identity(self) -> str:
        """What tells this run from others: the digest of config.yaml, which its files carry. Empty if that is damaged."""
        return _seal(self.path / "config.yaml")

    @property
    def again(self) -> str:
        """How to go on with this run after something was repaired."""
        return f"go on with `dfw run --resume {self.path}`"

    def newest_checkpoint(self) -> Path:
        """Returns the newest checkpoint that is not damaged, and warns of newer ones. Raises CheckpointError without one."""
        return newest_checkpoint(self.checkpoints, self.identity)

    def sweep(self) -> None:
        """Puts in place what a killed process had completed, and removes what it had not.

        Only for the process that alone goes on with the run. Files that another living process is writing stay.
        """
        adopt(self.checkpoints, self.identity)
        for folder in (self.path, self.checkpoints, self.images, *self.path.glob("export*")):
            sweep(folder)

    def write_config(self, name: str, text: str) -> None:
        """Writes `name` (config.yaml, resolved.yaml) atomically, with its own checksum in the last line."""
        self._write(name, sealed_text(text).encode())

    def read_stages(self) -> dict[str, dict[str, Any]]:
        """Returns stage -> its configuration from stages.yaml. Raises CheckpointError if the file is damaged."""
        path = self.path / STAGES
        try:
            trees = read_yaml(path.read_text(encoding="utf-8"))[0]["stages"]
            if not isinstance(trees, dict) or not all(isinstance(one, dict) for one in trees.values()):
                raise TypeError("it has no mapping of stages")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({one_line(error)}); put the file back from a copy, or go on with a single stage: "
                f"`dfw run --resume {self.path}/N-STAGE`"
            ) from error
        if not _seal(path):
            log.warning("%s: %s", path, _CHANGED)
        return trees

    def require_settings(self) -> None:
        """Raises CheckpointError if resolved.yaml holds anything else than settings."""
        read_settings(self.resolved)

    def read_resolved(self) -> str:
        """Returns the text of resolved.yaml; warns, and returns nothing, if it cannot be read."""
        try:
            return self.resolved.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            log.warning("%s: cannot be read (%s); the report goes without it", self.resolved, error.strerror)
            return ""

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes `name` (manifest.json, status.json) atomically, with its own checksum. A damaged one is kept beside it."""
        path = self.path / name
        if self._read(name)[1] and os.path.lexists(path):
            with self._writing(path):
                kept = path.rename(unused(path.with_name(f"{path.stem}-damaged{path.suffix}")))
            log.warning("%s: it was damaged, and is kept as %s", path, kept.name)
        self._write(name, sealed_json(finite(value), self.identity))

    def update_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Adds or replaces the keys of `value` in `name`."""
        self.write_json(name, self._read(name)[0] | dict(value))

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads `name`. Returns an empty mapping if it does not exist, and also, with a warning, if it is damaged."""
        value, damage = self._read(name)
        if damage:
            log.warning("%s: %s; going on without it", self.path / name, damage)
        return value

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns all whole rows of metrics.jsonl. Warns of others, and of rows that are missing before the newest checkpoint."""
        newest = list_checkpoints(self.checkpoints)[-1:]
        return read_metrics(self.metrics, number_of(newest[0].name) if newest else 0, self.identity)

    def truncate_metrics(self, step: int) -> None:
        """Drops the rows from `step` on, because a resumed run writes them again. Warns of steps that are missing before."""
        cut_metrics(self.metrics, step, self.identity)

    def previews(self) -> list[tuple[int, Path]]:
        """Returns (step, path) of the preview images, in the order of the steps."""
        found = ((re.fullmatch(r"step-(\d{1,18})", path.stem), path) for path in self.images.glob("step-*.png"))
        return sorted((int(match[1]), path) for match, path in found if match)

    def _read(self, name: str) -> tuple[dict[str, Any], str]:
        """Returns what `name` holds, and what is wrong with it, or nothing."""
        try:
            return unsealed_json((self.path / name).read_bytes(), self.identity), ""
        except FileNotFoundError:
            if (self.path / name).is_symlink():
                return {}, "a link to what is not there"
            return {}, "missing" if name == "manifest.json" and self.resolved.is_file() else ""
        except OSError as error:
            return {}, f"cannot be read ({error.strerror})"
        except ValueError as error:
            return {}, f"damaged, or changed by a person ({error})"

    def _write(self, name: str, data: bytes) -> None:
        with self._writing(self.path / name):
            write_whole(self.path / name, data)

    def _writing(self, path: Path) -> AbstractContextManager[None]:
        copy = "see that the folder is there and yours, or copy the run to one that is"
        return writing(path, CheckpointError, self.again, copy)


def _seal(path: Path) -> str:
    try:
        return seal_of(path.read_bytes())
    except OSError:
        return ""


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a YAML file of a run. Raises CheckpointError for one that is not text, not YAML, or not a mapping."""
    try:
        tree, _ = read_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise TypeError("it holds no `key: value` lines")
    except (OSError, ValueError, TypeError) as error:
        reason = "it is not text" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
        raise CheckpointError(
            f"{shown(path)}: cannot be read as the settings of a run ({reason}); put the file back from a copy, or remove the run"
        ) from error
    return tree


STAGES = "stages.yaml"
"""File in the directory of a run with stages: stage -> its resolved configuration, in order."""


def stage_directories(path: Path) -> list[Path]:
    """Returns the directories of the stages that have started, in order: `1-coarse`, `1-coarse-2` (tried again), `2-refine`."""
    if not (path / STAGES).is_file():
        return []
    found = [below for below in path.glob("*-*") if (below / "resolved.yaml").is_file() and below.name.split("-")[0].isdigit()]
    return sorted(found, key=lambda below: (int(below.name.split("-")[0]), len(below.name), below.name))


def earlier_stages(path: Path) -> dict[str, Path]:
    """Returns name -> directory of the stages before the one in `path`; empty for what is not a stage."""
    found = stage_directories(path.parent)
    before = found[: found.index(path)] if path in found else []
    return {one.name.partition("-")[2]: one for one in before}


class LogFile:
    """While open, the `dfw` logger also writes to run.log. What cannot be written there is left out, with one warning."""

    def __init__(self, path: Path, command: str) -> None:
        """`command`: what was asked for, as a shell takes it; its first line."""
        self._command = command
        self._handler: logging.Handler = logging.NullHandler()
        try:
            self._handler = _RunLog(path, encoding="utf-8")
        except OSError as error:
            log.warning("%s: cannot be written (%s); the run goes on without its log", path, error.strerror)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> LogFile:
        logger = logging.getLogger("dfw")
        logger.setLevel(logging.INFO)
        logger.addHandler(self._handler)
        logger.info("command: %s", printable(self._command))
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("dfw").removeHandler(self._handler)
        self._handler.close()


class _RunLog(logging.FileHandler):
    """Warns once where logging would print a traceback for every line that finds the device full."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Called in place of raising, while an exception is handled."""
        if not self._failed:
            self._failed = True
            log.warning("%s: cannot be written (%s); lines of the log are missing", self.baseFilename, sys.exc_info()[1])

    def close(self) -> None:
        """Closes the file, also where what it still holds cannot be written."""
        try:
            super().close()
        except OSError:
            self.handleError(logging.makeLogRecord({}))
