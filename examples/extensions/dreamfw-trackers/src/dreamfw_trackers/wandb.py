"""A run in Weights & Biases, offline in `<run>/wandb` unless `WANDB_MODE` says otherwise. `DFW_TRACKERS=wandb`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfw import hookimpl

from .asked import asked
from .identity import identity
from .tensorboard import MOVING, gif, scalars

if TYPE_CHECKING:
    from dfw import RunEnded, RunStarted, StepEnded


class WeightsAndBiases:
    """A listener; whatever it raises is reported once by dfw, which then goes on without it."""

    def __init__(self) -> None:
        self._run: Any = None
        self._total = 0

    @hookimpl
    def dfw_run_started(self, run: RunStarted) -> None:
        """Starts a run of wandb, or goes on with it: the identity is kept in the run's directory. A sweep is a group."""
        self._run = None  # of an earlier run in this process
        if not asked("wandb"):
            return
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # on by default, and not bound to the mode
        try:
            import wandb
        except ImportError as error:
            raise ImportError(f"{error}; run: pip install wandb") from error
        self._total = run.total_steps
        self._run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            dir=str(run.directory),
            id=identity(run.directory, "wandb"),
            resume=None if mode == "offline" else "allow",
            project=os.environ.get("WANDB_PROJECT", "dfw"),
            name=run.directory.name,
            group=run.sweep or None,
            config=run.config.model_dump(mode="json"),
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
        )

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """All numbers of the step under its own number, and the previews that were made."""
        if self._run is not None:
            self._run.log(scalars(step) | _pictures(step.images), step=step.progress.step)

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        """The last preview, turntable and mesh to look at, every artifact as a file, and how the run ended."""
        tracked, self._run = self._run, None
        if tracked is None:
            return
        last = run.directory / "images" / f"step-{self._total:06d}.png"
        with tempfile.TemporaryDirectory() as scratch:
            shown = _pictures((last,) if last.is_file() else ()) | _results(run, Path(scratch))
            if shown:  # not for an interrupted run, whose steps are yet to come
                tracked.log(shown, step=self._total)
        for path in run.artifacts.values():  # copied: wandb's own links would break when the run is moved
            copy = Path(tracked.dir) / path.relative_to(run.directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copy, dirs_exist_ok=True)
            else:
                shutil.copy2(path, copy)
            tracked.save(str(copy / "*" if path.is_dir() else copy), base_path=tracked.dir, policy="now")
        tracked.summary.update({"status": run.status, "seconds": run.seconds})
        tracked.finish(exit_code=0 if run.status == "finished" else 1)


def _pictures(paths: tuple[Path, ...]) -> dict[str, Any]:
    import wandb

    return {"preview": [wandb.Image(str(path)) for path in paths]} if paths else {}


def _results(run: RunEnded, scratch: Path) -> dict[str, Any]:
    """Turntable and mesh as media; wandb copies the files it is given."""
    import wandb

    shown: dict[str, Any] = {}
    turntable = run.artifacts.get("turntable")
    if turntable is not None and turntable.suffix == ".mp4":
        shown["turntable"] = wandb.Video(str(turntable), format="mp4")
    elif turntable is not None and turntable.suffix in MOVING:
        moving = scratch / "turntable.gif"
        moving.write_bytes(gif(turntable)[0])
        shown["turntable"] = wandb.Video(str(moving), format="gif")
    if "glb" in run.artifacts:
        shown["mesh"] = wandb.Object3D(str(run.artifacts["glb"]))
    return shown


listener = WeightsAndBiases()
"""What the entry point names."""
