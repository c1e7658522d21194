"""A run of several stages: ordinary runs in one directory, each of which may start from those before it.

What only a run needs is imported when it begins, so that a dry run does not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfw.compose import Composition, compose
from dfw.config.load import LoadedConfig, load_config, to_yaml
from dfw.config.settings import RunConfig
from dfw.config.yaml_text import read_yaml, write_yaml
from dfw.errors import CheckpointError, ConfigError
from dfw.plugins.registry import registry
from dfw.runs.checkpoint_folder import list_checkpoints
from dfw.runs.directory import STAGES, RunDirectory, new_run_folder, run_path, stage_directories
from dfw.runs.prompt_check import check_prompts

if TYPE_CHECKING:
    from dfw.runs.runner import RunResult


def compose_stages(loaded: Mapping[str, LoadedConfig]) -> dict[str, Composition]:
    """Composes all stages before the first begins, so that a mistake in the last one costs no time. Raises as `compose`."""
    composed = {name: compose(one.config, registry(), one.provenance) for name, one in loaded.items()}
    for name, one in loaded.items():
        check_prompts(composed[name], one.provenance)
        if one.config.start is not None and one.config.start.stage is None:
            from dfw.runs.start import find_start

            find_start(one.config.start, {}, one.provenance)
    return composed


def staged_yaml(compositions: Mapping[str, Composition]) -> str:
    """Writes the resolved configurations of all stages, by name; of a run without stages its own."""
    if list(compositions) == [""]:
        return to_yaml(compositions[""].resolved())
    return write_yaml({"stages": {name: read_yaml(to_yaml(one.resolved()))[0] for name, one in compositions.items()}})


def run_stages(compositions: Mapping[str, Composition], listeners: Sequence[object] | None = None) -> RunResult:
    """Runs the stages one after another in a new directory. Stops after one that is interrupted; raises as `run`."""
    first = next(iter(compositions.values())).config
    root = new_run_folder(run_path(first.output, first.name, first.prompt, first.seed))
    RunDirectory(root).write_config(STAGES, staged_yaml(compositions))
    return _go_on(root, {name: one.config for name, one in compositions.items()}, listeners)


def resume_stages(root: Path, overrides: Sequence[str] = (), listeners: Sequence[object] | None = None) -> RunResult:
    """Goes on with the first stage that is not finished. Raises CheckpointError where all are."""
    if overrides:
        raise ConfigError(
            f"{root}: a run with stages goes on as it was composed; give --resume {root}/N-STAGE to change one of them"
        )
    trees = RunDirectory(root).read_stages()
    return _go_on(root, {name: load_config(tree) for name, tree in trees.items()}, listeners, resumed=True)


def _go_on(root: Path, stages: Mapping[str, RunConfig], listeners: Sequence[object] | None, resumed: bool = False) -> RunResult:
    from dfw.runs.runner import resume, run

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
