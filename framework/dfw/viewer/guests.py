"""Who looks, from where, and what each of them was shown. viser's thread tells it; the run's thread draws."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

import viser

from dfw.errors import DfwError, one_line
from dfw.runs.scene import Scene
from dfw.viewer.eye import Look, Sight, see
from dfw.viewer.pace import Pace

STILL = 0.3
"""Seconds without a new camera after which it is at rest: pages send twenty a second while it moves."""
QUALITY = 85
"""Of the JPEG."""

log = logging.getLogger("dfw.viewer")


@dataclass
class Guest:
    """A page that is open."""

    client: viser.ClientHandle
    look: Look | None = None
    moved: float = 0.0
    """When the look or the sight changed, on `time.monotonic()`."""
    served: float = 0.0
    """When it was shown something."""
    shown: tuple[Look, Sight] | None = None
    """From where its picture looks, and at what."""
    step: int = -1
    """The step of the scene in its picture."""
    whole: bool = False
    """Whether its picture has the full size."""
    cost: float = 0.0
    """Seconds that its picture took."""


@dataclass
class Wishes:
    """What pages have asked for since the last look, and a condition that says so."""

    wake: threading.Condition = field(default_factory=threading.Condition)
    _asked: dict[str, None] = field(default_factory=dict)

    def add(self, wish: str) -> None:
        """Notes a wish; one that is there already counts once."""
        with self.wake:
            self._asked[wish] = None
            self.wake.notify_all()

    def take(self) -> list[str]:
        """Returns them, in order, and forgets them."""
        with self.wake:
            found, self._asked = list(self._asked), {}
        return found

    def touch(self) -> None:
        """Wakes who waits."""
        with self.wake:
            self.wake.notify_all()

    def wait(self, seconds: float) -> None:
        """Waits for the next wish or look, at most `seconds`."""
        with self.wake:
            if not self._asked:
                self.wake.wait(seconds)


def sentence(error: Exception) -> str:
    """What the panel says of an error."""
    if isinstance(error, DfwError):
        return str(error)
    log.info("traceback of what the viewer was asked for", exc_info=error)
    return one_line(error)


class Guests:
    """All pages that are open."""

    def __init__(self, server: viser.ViserServer, wishes: Wishes) -> None:
        self._open: dict[int, Guest] = {}
        self._wishes = wishes

        async def came(client: viser.ClientHandle) -> None:
            guest = self._open[client.client_id] = Guest(client)

            async def looked(camera: viser.CameraHandle) -> None:
                look = Look.of(camera.wxyz, camera.position, camera.fov, camera.image_width, camera.image_height)
                if look is not None and look != guest.look:
                    guest.look, guest.moved = look, time.monotonic()
                    wishes.touch()

            client.camera.on_update(looked)
            await looked(client.camera)

        async def went(client: viser.ClientHandle) -> None:
            self._open.pop(client.client_id, None)

        server.on_client_connect(came)
        server.on_client_disconnect(went)

    def __len__(self) -> int:
        return len(self._open)

    def renew(self) -> None:
        """There is another scene: what was shown is of no use."""
        for guest in self._open.copy().values():
            guest.shown = None

    def draw(self, scene: Scene, sight: Sight, pace: Pace) -> tuple[bool, str]:
        """Shows one page a new picture, if one is due and affordable. Returns whether it did, and what was wrong."""
        for guest in sorted(self._open.copy().values(), key=lambda one: one.served):
            look = guest.look
            if look is None:
                continue
            wanted, began = (look, sight), time.monotonic()
            if guest.shown is not None and guest.shown[1] != sight:
                guest.moved = began  # a slider that is drawn moves as a camera does
            if wanted != guest.shown:
                limit = pace.moving()
            elif began - guest.moved < STILL or (guest.whole and guest.step == scene.step):
                continue
            else:
                limit = pace.resting(guest.cost, guest.whole)
            if limit is None:
                continue
            trouble = ""
            try:
                pixels, guest.whole = see(scene, look, sight, None if limit > 1e3 else 1000 * limit)
                guest.client.scene.set_background_image(pixels, format="jpeg", jpeg_quality=QUALITY)
            except Exception as error:  # a plugin's renderer may raise anything: the run and the other pages go on
                trouble, guest.whole = sentence(error), True
            guest.shown, guest.step, guest.served = wanted, scene.step, time.monotonic()
            guest.cost = guest.served - began
            return True, trouble
        return False, ""
