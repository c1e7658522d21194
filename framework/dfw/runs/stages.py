"""A run of several stages: ordinary runs in one directory, each of which may start from those before it.

What only a run needs is imported when it begins, so that a dry run does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfw.compose import Composition, compose
from dfw.config.load import LoadedConfig, load_config, to_yaml
from dfw.config.settings import RunConfig
from dfw.config.yaml_text import read_yaml, write_yaml
from dfw.errors import CheckpointError, ConfigError
from dfw.plugins.registry import registry
from dfw.runs.call import Call
from dfw.runs.directory import STAGES, RunDirectory, check_output, new_run_folder, run_path, stage_directories
from dfw.runs.file_check import FileChecks
from dfw.runs.leading import in_all_processes
from dfw.runs.life import Life, status_of
from dfw.runs.prompt_check import check_prompts
from dfw.runs.signals import stopping
from dfw.runs.times import Times

if TYPE_CHECKING:
    from dfw.runs.drive import RunResult

log = logging.getLogger("dfw.runs")


def compose_stages(loaded: Mapping[str, LoadedConfig], files: FileChecks | None = None) -> dict[str, Composition]:
    """Composes all stages before the first begins, so that a mistake in the last one costs no time. Raises as `compose`.

    files: what is known of other runs' files, when many are checked.
    """
    files = files or FileChecks()
    composed = {name: compose(one.config, registry(), one.provenance) for name, one in loaded.items()}
    for name, one in loaded.items():
        check_prompts(composed[name], one.provenance)
        for path in composed[name].unasked:
            where = one.provenance.prefix(path)
            log.warning("%sno loss asks this guidance, so it is not loaded; leave it out, or give it a loss, e.g. sds", where)
        picture = one.config.image
        if picture is not None and not Path(picture).is_file():
            raise ConfigError(f"{one.provenance.prefix(('image',))}there is no file {picture}; give the path of a picture")
        files.check(composed[name], one.provenance)
        if one.config.start is not None:
            if one.config.start.stage is None:
                files.check_start(composed[name], one.provenance)
            else:
                from dfw.runs.start import check_class

                check_class(composed[name], composed[one.config.start.stage], one.provenance)
    return composed


def staged_yaml(compositions: Mapping[str, Composition]) -> str:
    """Writes the resolved configurations of all stages, by name; of a run without stages its own."""
    if list(compositions) == [""]:
        return to_yaml(compositions[""].resolved())
    return write_yaml({"stages": {name: read_yaml(to_yaml(one.resolved()))[0] for name, one in compositions.items()}})


@in_all_processes
def run_stages(
    compositions: Mapping[str, Composition],
    listeners: Sequence[object] | None = None,
    call: Call | None = None,
    path: Path | None = None,
) -> RunResult:
    """Runs the stages one after another in a new directory. Stops after one that is interrupted. Arguments: `run`."""
    call = call or Call()
    first = next(iter(compositions.values())).config
    if path is None:
        check_output(first.output)
    root = new_run_folder(path or run_path(first.output, first.name, first.subject, first.seed))
    with stopping() as stop, Life(root, Times(call.began), stop) as life:
        life.begin()
        RunDirectory(root).write_config(STAGES, staged_yaml(compositions))
        return _go_on(life, {name: one.config for name, one in compositions.items()}, listeners, call)


@in_all_processes
def resume_stages(
    root: Path, overrides: Sequence[str] = (), listeners: Sequence[object] | None = None, call: Call | None = None
) -> RunResult:
    """Goes on with the first stage that is not finished. Raises CheckpointError where all are, or where another process does."""
    call = call or Call()
    if overrides:
        raise ConfigError(
            f"{root}: a run with stages goes on as it was composed; give --resume {root}/N-STAGE to change one of them"
        )
    trees = RunDirectory(root).read_stages()
    with stopping() as stop, Life(root, Times(call.began), stop) as life:
        if life.before.get("status") == "finished":
            raise CheckpointError(f"{root}: all {len(trees)} stages are finished; start a new run with `dfw run`")
        life.begin()
        life.changed = True
        return _go_on(life, {name: load_config(tree) for name, tree in trees.items()}, listeners, call)


def _go_on(life: Life, stages: Mapping[str, RunConfig], listeners: Sequence[object] | None, call: Call) -> RunResult:
    from dfw.runs.drive import RunResult
    from dfw.runs.runner import resume, run

    done: dict[str, Path] = {}
    result = RunResult(life.folder, "finished")
    for number, (name, config) in enumerate(stages.items(), start=1):
        begun = [path for path in stage_directories(life.folder) if path.name.startswith(f"{number}-")]
        if begun and status_of(begun[-1]) == "finished":
            done[name] = begun[-1]
            result = RunResult(begun[-1], "finished")
            continue
        with life.stop.at_once():
            life.times.begin(name)
            life.say(stage=name, stages=list(stages))
        if begun:
            result = resume(begun[-1], (), listeners, done, call)
        else:
            result = run(config, None, listeners, life.folder / f"{number}-{name}", done, call)
        if result.status != "finished":
            break
        call = Call(call.command, sweep=call.sweep)
        done[name] = result.directory
    life.end(result.status)
    return result
