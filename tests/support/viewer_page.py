"""A page of the viewer without a browser: it speaks viser's protocol over a real websocket, and turns its camera."""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import viser
import zstandard
from PIL import Image
from viser.transforms import SO3
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE = 60  # seconds, on a busy machine


def until(condition: Callable[[], Any]) -> Any:
    """Waits until `condition()` is true, and returns what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "never"
        time.sleep(0.01)
    return found


class Page:
    """A page at `address`. A thread of its own reads what the server sends."""

    def __init__(self, address: str, width: int = 64, height: int = 64, headers: Mapping[str, str] | None = None) -> None:
        self.size = width, height
        place = urlsplit(address)
        given = {"Origin": f"http://{place.netloc}"} | dict(headers or {})
        origin = given.pop("Origin", None)
        self._socket = connect(
            f"ws://{place.netloc}{place.path.rstrip('/')}",
            subprotocols=[f"viser-v{viser.__version__}"],
            origin=origin,
            additional_headers=given,
            compression=None,
            max_size=None,
        )
        self.parts: dict[str, dict[str, Any]] = {}
        """uuid of a part of the panel -> its properties."""
        self.pictures: list[np.ndarray] = []
        self.frusta: set[str] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def look(
        self, azimuth: float = 0.0, elevation: float = 15.0, distance: float = 3.0, fov: float = 40.0, **changes: Any
    ) -> None:
        """Moves the camera to `azimuth` and `elevation`, degrees; it looks at the centre. `changes`: fields as they are sent."""
        az, el = math.radians(azimuth), math.radians(elevation)
        position = distance * np.array([math.cos(el) * math.cos(az), math.cos(el) * math.sin(az), math.sin(el)])
        forward = -position / np.linalg.norm(position)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.stack([right, np.cross(forward, right), forward], axis=1)
        width, height = self.size
        self.send(
            {
                "type": "ViewerCameraMessage",
                "wxyz": SO3.from_matrix(pose).wxyz.tolist(),
                "position": position.tolist(),
                "fov": math.radians(fov),
                "image_height": height,
                "image_width": width,
                "near": 0.01,
                "far": 1000.0,
                "look_at": [0.0, 0.0, 0.0],
                "up_direction": [0.0, 0.0, 1.0],
            }
            | changes
        )

    def send(self, message: dict[str, Any] | bytes) -> None:
        """Sends a message as viser's own page does."""
        self._socket.send(message if isinstance(message, bytes) else msgspec.msgpack.encode(message))

    def part(self, label: str) -> str:
        """The uuid of the part of the panel with this label."""
        return until(lambda: next((uuid for uuid, props in self.parts.items() if props.get("label") == label), ""))

    def set(self, label: str, value: Any) -> None:
        """Gives a part of the panel another value; of a button True is a click."""
        self.send({"type": "GuiUpdateMessage", "uuid": self.part(label), "updates": {"value": value}})

    def value(self, label: str) -> Any:
        """The value of a part of the panel, as the server says it."""
        return self.parts[self.part(label)].get("value")

    def close(self) -> None:
        """Leaves."""
        self._socket.close()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        try:
            for data in self._socket:
                for message in _messages(data):
                    self._take(message)
        except ConnectionClosed:
            return

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "BackgroundImageMessage" and message["rgb_data"] is not None:
            self.pictures.append(np.asarray(Image.open(io.BytesIO(message["rgb_data"])).convert("RGB")))
        elif kind == "GuiUpdateMessage":
            self.parts.setdefault(message["uuid"], {}).update(message["updates"])
        elif kind.startswith("Gui") and isinstance(message.get("props"), dict):
            self.parts[message["uuid"]] = {"kind": kind, "value": message.get("value"), **message["props"]}
        elif kind == "CameraFrustumMessage":
            self.frusta.add(message["name"])
        elif kind == "RemoveSceneNodeMessage":
            self.frusta.discard(message["name"])


def _messages(data: bytes) -> list[dict[str, Any]]:
    """The messages of a frame: sizes, compressed metadata, then the buffers that these point into."""
    size, compressed = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:16], "little")
    found = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + compressed], max_output_size=size))
    return list(found["messages"])
