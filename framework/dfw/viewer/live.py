"""Watches a run while it trains: a listener."""

from __future__ import annotations

import time

import numpy as np
import viser
from numpy.typing import NDArray
from torch import Tensor

from dfw.export.pictures import to_bytes
from dfw.interfaces.data import Orbit
from dfw.interfaces.events import PhaseBegan, RunEnded, RunStarted, StepEnded
from dfw.interfaces.hooks import hookimpl
from dfw.report.data import duration_text
from dfw.runs.controls import Controls
from dfw.runs.scene import Scene
from dfw.viewer import panel as ask
from dfw.viewer import server as web
from dfw.viewer.curves import Curves
from dfw.viewer.door import Door
from dfw.viewer.eye import quaternion
from dfw.viewer.guests import Guests, Wishes, sentence
from dfw.viewer.pace import Pace, Unpaced
from dfw.viewer.panel import Panel

REFRESH = 0.5
"""Seconds between two updates of the panel."""
TICK = 0.2
"""Seconds after which a run that is paused looks for signals."""
FRUSTA = 16
"""Cameras of a step that are shown at most."""


class LiveViewer:
    """A listener that shows a run to whoever comes through the door."""

    def __init__(self, door: Door) -> None:
        self._server = web.start(door, "dfw")
        self._wishes = Wishes()
        self._guests = Guests(self._server, self._wishes)
        self._panel = Panel(self._server, self._wishes, trains=True)
        self._curves = Curves()
        self._pace = Pace()
        self._paused = False
        self._where = ""
        self._lent = self._refreshed = time.monotonic()
        self._frusta = 0
        self._look: Orbit | None = None

    def close(self) -> None:
        """Ends the server."""
        web.stop(self._server)

    @hookimpl
    def dfw_phase_began(self, phase: PhaseBegan) -> None:
        """Says what is done now."""
        self._panel.tell(state=f"{phase.doing} ...")

    @hookimpl
    def dfw_run_started(self, run: RunStarted) -> None:
        """Says which run it is."""
        self._curves = Curves()
        self._panel.tell(run=f"{run.config.subject} ({run.directory.name})")

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """Keeps the numbers."""
        self._curves.add(step.progress.step, step.loss, step.metrics)
        left = "" if step.seconds_left is None else f", {duration_text(step.seconds_left)} left"
        self._where = f"step {step.progress.step + 1} of {step.progress.total}{left}"

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        """Says how it ended."""
        self._panel.tell(state=run.status)

    @hookimpl
    def dfw_scene_lent(self, scene: Scene, controls: Controls) -> None:
        """Draws for whoever looks, as far as the pace allows, and does what they ask."""
        if self._guests:  # nobody saves up for those who come later
            self._pace.stepped(time.monotonic() - self._lent)
        self._do(scene, controls)
        if self._paused:
            self._pause(scene, controls)
        elif self._guests:
            drawing = time.monotonic()
            drew = self._show(scene, controls, self._pace)
            self._pace.spent(time.monotonic() - drawing, drew)
        self._lent = time.monotonic()

    def _pause(self, scene: Scene, controls: Controls) -> None:
        with controls.paused():
            self._panel.hold(True)
            self._panel.tell(state=f"paused at {self._where or 'the start'}")
            while self._paused and not controls.stopping:
                if not self._show(scene, controls, Unpaced()):
                    self._wishes.wait(TICK)
                self._do(scene, controls)
        self._paused = False
        self._panel.hold(False)

    def _show(self, scene: Scene, controls: Controls, pace: Pace) -> bool:
        """Draws one picture, and the panel twice a second. Returns whether there was something to draw."""
        if scene.look != self._look:
            self._look = scene.look
            start_at(self._server, scene)
            self._panel.offer_time(scene.moves)
        drew, trouble = self._guests.draw(scene, self._panel.sight, pace)
        now = time.monotonic()
        if now - self._refreshed > REFRESH:
            self._refreshed = now
            if not self._paused:
                self._panel.tell(state=self._where)
            self._panel.draw(self._curves)
            self._show_cameras(controls)
        self._panel.tell(said=trouble)
        return drew

    def _do(self, scene: Scene, controls: Controls) -> None:
        for wish in self._wishes.take():
            if wish in (ask.PAUSE, ask.GO_ON):
                self._paused = wish == ask.PAUSE
            elif wish == ask.STOP:
                controls.stop()
                self._panel.tell(state="stopping ...")
            else:
                try:
                    self._panel.tell(said=self._answer(wish, controls))
                except Exception as error:  # a plugin's guidance may raise anything: the run goes on
                    self._panel.tell(said=sentence(error))

    def _answer(self, wish: str, controls: Controls) -> str:
        if wish == ask.EXPORT:
            self._panel.tell(said="exporting ...")
            made = [f"{path.parent.name}/{path.name}" for path in controls.export().values()]
            return f"wrote {', '.join(made)}" if made else "the export was ended"
        guess = controls.ask(*self._panel.question)
        self._panel.answer([_side_by_side(guess.seen), _side_by_side(guess.denoised)])
        return "the prior has answered"

    def _show_cameras(self, controls: Controls) -> None:
        shown = 0
        for cameras in controls.views.values() if self._panel.frusta else ():
            poses, angles = cameras.camera_to_world.cpu().numpy(), cameras.fov_y.deg2rad().tolist()
            for pose, angle in list(zip(poses, angles, strict=True))[: FRUSTA - shown]:
                name, aspect = f"/cameras/{shown}", cameras.width / cameras.height
                at = {"wxyz": quaternion(pose), "position": pose[:3, 3]}
                self._server.scene.add_camera_frustum(name, angle, aspect, scale=0.2, color=(220, 120, 20), **at)
                shown += 1
        for number in range(shown, self._frusta):
            self._server.scene.remove_by_name(f"/cameras/{number}")
        self._frusta = shown


def start_at(server: viser.ViserServer, scene: Scene) -> None:
    """Has pages begin where previews look from."""
    view = scene.views(1, 16)
    x, y, z = view.position[0].tolist()
    camera = server.initial_camera
    camera.position, camera.look_at, camera.fov = (x, y, z), (0.0, 0.0, 0.0), float(view.fov_y.deg2rad())


def _side_by_side(images: Tensor) -> NDArray[np.uint8]:
    """Pictures (B, 3, H, W) as one, up to four."""
    return np.concatenate(list(to_bytes(images[:4].permute(0, 2, 3, 1))), axis=1)
