"""viser behind a door: every request and every message passes the guard first."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import msgspec
import viser
import websockets
import websockets.asyncio.server
from viser.infra import _infra
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from dfw.errors import PluginError
from dfw.viewer.door import Door

LARGEST = 2**16
"""Bytes of a message from a page; those of viser's own page have some hundred."""
PATIENCE = 10.0
"""Seconds that the server's thread may take to end, on a busy machine."""
LONGEST = 200
"""Characters of a text that a page may send: the labels of the panel are shorter."""
QUIET = {"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cache-Control": "no-store"}
"""The address is a secret: no other site learns it, shows the page in a frame, or finds it in a cache."""

# A page may be closed while its picture is drawn.
warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")


class _Calm(logging.Filter):
    """What strangers send wrong goes to run.log, not to the console."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.INFO, "INFO"
        return record.getMessage() not in ("opening handshake failed", "connection rejected (200 OK)")


_web = logging.getLogger("dfw.viewer.web")
_web.addFilter(_Calm())


def may_send(data: object) -> bool:
    """Whether a message of a page is one that the viewer has a use for: a camera, or a new value of a part of the panel.

    viser knows others, which would write any property of a part, upload files, or ask for a public address of this server.
    """
    if not isinstance(data, bytes):
        return False
    try:
        message = msgspec.msgpack.decode(data)
    except msgspec.MsgspecError:
        return False
    if not isinstance(message, dict):
        return False
    if message.get("type") == "ViewerCameraMessage":
        return True
    value = message.get("updates")
    if message.get("type") != "GuiUpdateMessage" or not isinstance(value, dict) or set(value) != {"value"}:
        return False
    return isinstance(value["value"], bool | int | float | str) and len(str(value["value"])) <= LONGEST


class _Guarded(ServerConnection):
    """A connection that hears only what `may_send` lets through."""

    async def recv(self, decode: bool | None = None) -> Any:
        """The next message that is let through."""
        while True:
            data = await super().recv(decode)
            if may_send(data):
                return data


def start(door: Door, title: str) -> viser.ViserServer:
    """Starts viser on the door's socket, behind its guard. Raises PluginError if this version of viser went around it."""
    begun: list[str] = []

    def guarded(handler: Any, host: str, port: int, *, process_request: Callable[..., Response | None], **options: Any) -> Any:
        def process(connection: ServerConnection, request: Request) -> Response | None:
            refused = door.refusal(request.path, request.headers)
            if refused:
                response = connection.respond(HTTPStatus.FORBIDDEN, f"{refused}\n")
            else:
                found = process_request(connection, replace(request, path=door.inside(request.path)))
                if found is None:
                    return None
                response = found
            for name, value in QUIET.items():
                response.headers[name] = value
            return response

        begun.append("guarded")
        options |= {"max_size": LARGEST, "logger": _web, "create_connection": _Guarded}
        return websockets.asyncio.server.serve(handler, process_request=process, sock=door.socket, **options)

    with _in_place_of_serve(guarded), contextlib.redirect_stdout(io.StringIO()):  # viser prints an address without the token
        server = viser.ViserServer(host=door.host, port=door.port, label=title, verbose=False)
    if begun != ["guarded"]:
        stop(server)
        raise PluginError(f"viser {viser.__version__} does not start as dfw guards it; install viser==1.1.1")
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    return server


def stop(server: viser.ViserServer) -> None:
    """Ends the server's thread, and closes its door."""
    with contextlib.redirect_stdout(io.StringIO()):  # it says so
        server.stop()
        thread = server._websock_server._server_thread
        if thread is not None:
            thread.join(PATIENCE)


@contextlib.contextmanager
def _in_place_of_serve(guarded: Callable[..., Any]) -> Iterator[None]:
    """viser has no way to give it a socket or a guard, so it finds `guarded` where it looks for websockets' `serve`."""
    seen = SimpleNamespace(
        asyncio=SimpleNamespace(server=SimpleNamespace(serve=guarded)),
        exceptions=websockets.exceptions,
        datastructures=websockets.datastructures,
    )
    infra: Any = _infra
    kept = infra.websockets
    infra.websockets = seen
    try:
        yield
    finally:
        infra.websockets = kept
