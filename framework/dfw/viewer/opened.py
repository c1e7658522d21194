"""Shows runs that are there already: finished ones, and those that other processes work on at their newest checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from dfw.atomic import unused
from dfw.compose import Composition
from dfw.runs.checkpoint_folder import list_checkpoints
from dfw.runs.directory import RunDirectory
from dfw.runs.life import status_of
from dfw.runs.outputs import export_all
from dfw.runs.runner import reopen
from dfw.runs.scene import Scene
from dfw.viewer import panel as ask
from dfw.viewer import server as web
from dfw.viewer.curves import Curves
from dfw.viewer.door import Door
from dfw.viewer.guests import STILL, Guests, Wishes, sentence
from dfw.viewer.live import start_at
from dfw.viewer.pace import Unpaced
from dfw.viewer.panel import Panel

TICK = 2.0
"""Seconds between two looks for a newer checkpoint."""


class OpenedViewer:
    """Shows one run of several at a time."""

    def __init__(self, door: Door, runs: dict[str, Path], device: str | None = None) -> None:
        """`runs`: as `runs_in` gives them. Opens the first one. Raises what is wrong with that if it is the only one."""
        self._runs, self._device = runs, device
        self._composition: Composition | None = None
        self._scene: Scene | None = None
        self._curves, self._seen = Curves(), ""
        trouble = self._open(next(iter(runs)))
        self._server = web.start(door, "dfw")
        self._wishes = Wishes()
        self._guests = Guests(self._server, self._wishes)
        self._panel = Panel(self._server, self._wishes, trains=False, runs=list(runs))
        self._show_anew(trouble)

    def close(self) -> None:
        """Ends the server."""
        web.stop(self._server)

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Shows until Ctrl-C, or until `until()` says so."""
        looked = time.monotonic()
        while not until():
            self._do()
            drew = False
            if self._scene is not None and self._guests:
                drew, trouble = self._guests.draw(self._scene, self._panel.sight, Unpaced())
                self._panel.draw(self._curves)
                self._panel.tell(said=trouble)
            if self._guests and time.monotonic() - looked > TICK:
                looked = time.monotonic()
                self._follow()
            if not drew:
                # A camera that has come to rest gets a better picture.
                self._wishes.wait(min(STILL, TICK) if self._guests else TICK)

    def _open(self, label: str) -> str:
        """Opens a run. Returns what is wrong with it, unless it is the only one: then that is raised."""
        self._label, self._scene = label, None
        directory = RunDirectory(self._runs[label])
        self._seen = _newest(directory)
        try:
            self._composition, self._scene = reopen(RunDirectory.open(directory.path), self._device)
            self._curves = Curves()
            for row in directory.read_metrics():
                self._curves.add_row(row)
        except Exception as error:  # a plugin's geometry may raise anything: the list stays usable
            if len(self._runs) == 1:
                raise
            return sentence(error)
        return ""

    def _follow(self) -> None:
        """Says how the run stands, and opens it again where it has a newer checkpoint."""
        newest = _newest(RunDirectory(self._runs[self._label]))
        if newest != self._seen:
            before = self._scene
            try:
                trouble = self._open(self._label)
            except Exception as error:  # the checkpoint may have been replaced by a newer one meanwhile
                trouble = sentence(error)
            self._scene = self._scene or before
            self._show_anew(trouble)
        self._tell("")

    def _tell(self, trouble: str) -> None:
        directory, scene = RunDirectory(self._runs[self._label]), self._scene
        subject = "" if scene is None else f"{scene.config.subject} "
        step = "" if scene is None else f", step {scene.step} of {scene.config.trainer.steps}"
        self._panel.tell(f"{subject}({directory.path.name})", f"{status_of(directory.path) or 'not begun'}{step}", trouble)

    def _show_anew(self, trouble: str) -> None:
        """After a run was opened."""
        self._tell(trouble)
        self._guests.renew()
        if self._scene is not None:
            start_at(self._server, self._scene)
            self._panel.offer_time(self._scene.moves)

    def _do(self) -> None:
        for wish in self._wishes.take():
            if wish == ask.CHOOSE and self._panel.run != self._label:
                self._panel.tell(state="opening ...", said=" ")
                self._show_anew(self._open(self._panel.run))
            elif wish == ask.EXPORT and self._scene is not None and self._composition is not None:
                self._panel.tell(said="exporting ...")
                folder = unused(RunDirectory(self._runs[self._label]).export)
                try:
                    made = export_all(self._scene, self._composition.config.export, self._composition.exporters(), folder)
                    self._panel.tell(said=f"wrote {', '.join(f'{path.parent.name}/{path.name}' for path in made.values())}")
                except Exception as error:  # a plugin's geometry may raise anything
                    self._panel.tell(said=sentence(error))


def _newest(directory: RunDirectory) -> str:
    found = list_checkpoints(directory.checkpoints)
    return found[-1].name if found else ""
