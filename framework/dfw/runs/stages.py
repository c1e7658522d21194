"""A run of several stages: ordinary runs in one directory, each of which may start from those before it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from dfw.compose import Composition, compose
from dfw.config.load import LoadedConfig, load_config, to_yaml
from dfw.config.settings import RunConfig
from dfw.errors import CheckpointError, ConfigError
from dfw.plugins.registry import registry
from dfw.runs.checkpoint import list_checkpoints
from dfw.runs.directory import STAGES, RunDirectory, slug, stage_directories, write_text
from dfw.runs.runner import RunResult, resume, run


def compose_stages(loaded: Mapping[str, LoadedConfig]) -> dict[str, Composition]:
    """All stages, composed before the first begins, so that a mistake in the last one costs no time. Raises as `compose`."""
    composed: dict[str, Composition] = {}
    for name, one in loaded.items():
        try:
            composed[name] = compose(one.config, registry(), one.provenance)
        except ConfigError as error:
            raise ConfigError(f"stage {name}: {error}" if name else str(error)) from error
    return composed


def staged_yaml(compositions: Mapping[str, Composition]) -> str:
    """The resolved configurations of all stages, by name."""
    trees = {name: yaml.safe_load(to_yaml(one.resolved())) for name, one in compositions.items()}
    text: str = yaml.safe_dump({"stages": trees}, sort_keys=False, allow_unicode=True, width=120)
    return text


def run_stages(compositions: Mapping[str, Composition], listeners: Sequence[object] | None = None) -> RunResult:
    """Runs the stages one after another in a new directory. Stops after one that is interrupted; raises as `run`."""
    first = next(iter(compositions.values())).config
    stem = f"{slug(first.prompt or first.name)}-{first.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    root = _new_folder(Path(first.output) / first.name / stem)
    write_text(root / STAGES, staged_yaml(compositions))
    return _go_on(root, {name: one.config for name, one in compositions.items()}, listeners)


def resume_stages(root: Path, overrides: Sequence[str] = (), listeners: Sequence[object] | None = None) -> RunResult:
    """Goes on with the first stage that is not finished. Raises CheckpointError where all are."""
    if overrides:
        raise ConfigError(
            f"{root}: a run with stages goes on as it was composed; give --resume {root}/N-STAGE to change one of them"
        )
    trees: dict[str, Any] = yaml.safe_load((root / STAGES).read_text(encoding="utf-8"))["stages"]
    return _go_on(root, {name: load_config(tree) for name, tree in trees.items()}, listeners, resumed=True)


def _go_on(root: Path, stages: Mapping[str, RunConfig], listeners: Sequence[object] | None, resumed: bool = False) -> RunResult:
    done: dict[str, Path] = {}
    result: RunResult | None = None
    for number, (name, config) in enumerate(stages.items(), start=1):
        begun = [path for path in stage_directories(root) if path.name.startswith(f"{number}-")]
        directory = begun[-1] if begun else None
        if directory is not None and _status(directory) == "finished":
            done[name] = directory
            continue
        if directory is not None and list_checkpoints(directory / "checkpoints"):
            result = resume(directory, listeners=listeners)
        else:
            result = run(config, None, listeners, root / f"{number}-{name}", done)
        if result.status != "finished":
            return result
        done[name] = result.directory
    if result is None:
        raise CheckpointError(f"{root}: all {len(stages)} stages are finished; start a new run with `dfw run`")
    return result


def _status(directory: Path) -> str:
    return str(RunDirectory(directory).read_json("status.json").get("status", ""))


def _new_folder(base: Path) -> Path:
    number = 1
    while True:
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"output: cannot make {path}: {error.strerror}; write a folder you may write to") from error
        else:
            return path
