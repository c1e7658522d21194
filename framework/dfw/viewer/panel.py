"""What stands next to the picture. No text of a run goes through Markdown or HTML, which could hold code or name files."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import viser
from numpy.typing import NDArray
from viser import uplot

from dfw.text import shortened
from dfw.viewer.curves import Curves
from dfw.viewer.eye import KINDS, SIDES, Sight
from dfw.viewer.guests import Wishes

PAUSE, GO_ON, STOP, EXPORT, ASK, CHOOSE = "pause", "go on", "stop", "export", "ask the prior", "choose"
"""Wishes."""
LOSS = "loss"


class Panel:
    """The parts of the panel, the same for everybody who looks."""

    def __init__(self, server: viser.ViserServer, wishes: Wishes, trains: bool, runs: Sequence[str] = ()) -> None:
        """`trains`: whether a run can be paused and stopped. `runs`: labels of runs to choose from."""
        gui, self._wishes = server.gui, wishes
        self._run = gui.add_text("Run", "", disabled=True)
        self._state = gui.add_text("State", "", disabled=True)
        self._runs = tuple(runs)
        self._choice: viser.GuiDropdownHandle[str] | None = None
        if len(runs) > 1:
            self._choice = gui.add_dropdown("Show run", self._runs)
            self._choice.on_update(self._asking(lambda: CHOOSE))
        self.paused = False
        self._pause: viser.GuiButtonHandle | None = None
        if trains:
            self._pause = self._button(gui, "Pause", lambda: GO_ON if self.paused else PAUSE, "Hold the run between two steps")
            self._button(gui, "Stop", lambda: STOP, "As Ctrl-C: a checkpoint is written, and the run can be resumed")
        self._button(gui, "Export", lambda: EXPORT, "Write the mesh into a new folder of the run")
        self._said = gui.add_text("Last", "", disabled=True)
        self._kind = gui.add_dropdown("Picture", KINDS)
        self._side = gui.add_dropdown("Pixels at rest", [str(side) for side in SIDES], initial_value="512")
        self._time = gui.add_slider(
            "Time", 0.0, 1.0, 0.01, 0.0, visible=False, hint="From the first moment of the scene to its last"
        )
        self._frusta = gui.add_checkbox("Cameras of the step", False) if trains else None
        for one in (self._kind, self._side, self._time):
            one.on_update(self._waking())
        with gui.add_folder("Curves"):
            self._name = gui.add_dropdown("Curve", (LOSS,))
            self._plot = gui.add_uplot(
                (np.zeros(1), np.zeros(1)),
                (uplot.Series(label="step"), uplot.Series(label="value", stroke="#2070c0", width=2)),
                scales={"x": uplot.Scale(time=False)},
                height=180,
                aspect=2.0,
            )
            self._name.on_update(self._waking())
        self._pictures: list[viser.GuiImageHandle] = []
        if trains:
            self._add_prior(gui)

    def _add_prior(self, gui: viser.GuiApi) -> None:
        with gui.add_folder("Prior", expand_by_default=False):
            self._noise = gui.add_slider("Noise", 0.02, 0.98, 0.02, 0.5, hint="Share of the noise schedule")
            self._scale = gui.add_slider("Guidance scale", 1.0, 50.0, 0.5, 7.5)
            self._button(gui, "Ask the prior", lambda: ASK, "One prediction for the views of the last step")
            blank = np.full((16, 16, 3), 128, np.uint8)
            self._pictures = [gui.add_image(blank, label=label) for label in ("What it sees", "Its denoised guess")]

    def _button(self, gui: viser.GuiApi, label: str, wish: Callable[[], str], hint: str) -> viser.GuiButtonHandle:
        made = gui.add_button(label, hint=hint)
        made.on_click(self._asking(wish))
        return made

    def _asking(self, wish: Callable[[], str]) -> Callable[[object], Coroutine[Any, Any, None]]:
        async def asked(_: object) -> None:  # a coroutine runs on viser's thread; a function would start threads
            self._wishes.add(wish())

        return asked

    def _waking(self) -> Callable[[object], Coroutine[Any, Any, None]]:
        async def woken(_: object) -> None:
            self._wishes.touch()

        return woken

    @property
    def sight(self) -> Sight:
        """What to show: a page may have sent anything."""
        kind = self._kind.value if self._kind.value in KINDS else KINDS[0]
        side = next((side for side in SIDES if str(side) == self._side.value), SIDES[1])
        return Sight(kind, side, _between(self._time.value, 0, 1))

    @property
    def run(self) -> str:
        """The label that is chosen; the first where a page sent none of them."""
        return self._choice.value if self._choice is not None and self._choice.value in self._runs else self._runs[0]

    @property
    def frusta(self) -> bool:
        """Whether to show the cameras of the step."""
        return self._frusta is not None and self._frusta.value is True

    @property
    def question(self) -> tuple[float, float]:
        """Noise in [0, 1], and guidance scale, for the prior."""
        return _between(self._noise.value, 0, 1), _between(self._scale.value, 0, 100)

    def tell(self, run: str = "", state: str = "", said: str = "") -> None:
        """Changes what the panel says; an empty text leaves it as it is."""
        for part, text in ((self._run, run), (self._state, state), (self._said, said)):
            if text and part.value != shortened(text, 300):
                part.value = shortened(text, 300)  # type: ignore[misc]  # it has a setter, which mypy does not see

    def offer_time(self, moves: bool) -> None:
        """Shows the slider of time for a scene that moves, and hides it for any other."""
        self._time.visible = moves

    def hold(self, paused: bool) -> None:
        """Shows whether the run is paused."""
        self.paused = paused
        if self._pause is not None:
            self._pause.label = "Go on" if paused else "Pause"

    def draw(self, curves: Curves) -> None:
        """Brings the curve up to date."""
        names = tuple(curves.names) or (LOSS,)
        if self._name.options != names:
            self._name.options = names
        points = curves.points(self._name.value)
        if not all(map(np.array_equal, points, self._plot.data)):  # viser sends it to every page
            self._plot.data = points

    def answer(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Shows what the prior sees, and what it believes."""
        for part, pixels in zip(self._pictures, pictures, strict=True):
            part.image = pixels


def _between(sent: float, lowest: float, highest: float) -> float:
    """A slider's number within its limits: a page may send any number, also infinity."""
    return min(max(sent, lowest), highest) if math.isfinite(sent) else lowest
