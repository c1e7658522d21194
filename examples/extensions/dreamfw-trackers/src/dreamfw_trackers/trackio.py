"""A run in Trackio, in its folder on this machine unless `TRACKIO_SPACE_ID` or `TRACKIO_SERVER_URL` says otherwise.

`DFW_TRACKERS=trackio`.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfw import hookimpl

from .asked import asked
from .identity import identity
from .tensorboard import MOVING, gif, scalars

if TYPE_CHECKING:
    from dfw import RunEnded, RunStarted, StepEnded


class Trackio:
    """A listener; whatever it raises is reported once by dfw, which then goes on without it."""

    def __init__(self) -> None:
        self._run: Any = None
        self._total = 0

    @hookimpl
    def dfw_run_started(self, run: RunStarted) -> None:
        """Starts a run of Trackio, or goes on with it. Runs of one sweep are one group."""
        self._run = None  # of an earlier run in this process
        if not asked("trackio"):
            return
        try:
            import trackio
        except ImportError as error:
            raise ImportError(f"{error}; run: pip install trackio") from error
        self._total = run.total_steps
        with contextlib.redirect_stdout(io.StringIO()):  # it would print between the lines of the console
            self._run = trackio.init(
                os.environ.get("TRACKIO_PROJECT", "dfw"),
                name=f"{run.directory.name}-{identity(run.directory, 'trackio')[:6]}",  # its resumption goes by the name
                group=run.sweep or None,
                config=run.config.model_dump(mode="json"),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """All numbers of the step under its own number, and the previews that were made."""
        if self._run is not None:
            self._run.log(scalars(step) | _picture(step.images), step=step.progress.step)

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        """The last preview, turntable and mesh to look at, and how the run ended."""
        tracked, self._run = self._run, None
        if tracked is None:
            return
        import trackio

        last = run.directory / "images" / f"step-{self._total:06d}.png"
        ended: dict[str, Any] = {"status": run.status, "seconds": run.seconds}
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            ended |= _picture((last,) if last.is_file() else ()) | _results(run, Path(scratch))
            tracked.log(ended, step=self._total)
            trackio.finish()  # of `tracked`, which it also forgets, so that nothing is printed when the process ends


def _picture(paths: tuple[Path, ...]) -> dict[str, Any]:
    import trackio

    return {"preview": trackio.Image(str(paths[-1]))} if paths else {}


def _results(run: RunEnded, scratch: Path) -> dict[str, Any]:
    """Turntable and mesh as media; Trackio copies the files it is given."""
    import trackio

    shown: dict[str, Any] = {}
    turntable = run.artifacts.get("turntable")
    if turntable is not None and turntable.suffix == ".mp4":
        shown["turntable"] = trackio.Video(str(turntable), format="mp4")
    elif turntable is not None and turntable.suffix in MOVING:
        moving = scratch / "turntable.gif"
        moving.write_bytes(gif(turntable)[0])
        shown["turntable"] = trackio.Video(str(moving), format="gif")
    if "glb" in run.artifacts:
        shown["mesh"] = trackio.Object3D(str(run.artifacts["glb"]))
    return shown


listener = Trackio()
"""What the entry point names."""
