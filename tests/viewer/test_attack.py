"""Strangers, and pages that send what viser's page does not, at a real server: nobody comes in, nothing is obeyed."""

from __future__ import annotations

import http.client
import logging
import math
import socket
from collections.abc import Iterator

import msgspec
import pytest
import viser
from viewer_page import Page, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dfw.viewer.door import Door
from dfw.viewer.eye import Sight
from dfw.viewer.live import LiveViewer
from dfw.viewer.server import LARGEST, may_send


@pytest.fixture(scope="module")
def viewer() -> Iterator[tuple[Door, LiveViewer]]:
    door = Door(port=0)
    made = LiveViewer(door)
    yield door, made
    made.close()
    door.close()


@pytest.fixture
def door(viewer: tuple[Door, LiveViewer]) -> Door:
    return viewer[0]


def asked(door: Door, path: str, **headers: str) -> tuple[int, str]:
    """Status and text of the answer to a plain request."""
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    return answer.status, answer.read().decode("utf-8", "replace")


def test_the_page_comes_with_the_token_alone(door: Door):
    assert asked(door, f"/{door.token}/")[1].lower().startswith("<!doctype html>")
    for path in ("/", "/index.html", f"/{door.token[:-1]}/"):
        assert asked(door, path)[0] == 403
    assert asked(door, f"/{door.token}/", Host=f"evil.example:{door.port}") == (
        403,
        "this viewer is open at localhost, 127.0.0.1, ::1 only\n",
    )


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "%2e%2e/%2e%2e/_viser.py", "..\\..\\_viser.py", "//etc/passwd", "../_viser.py"]
)
def test_no_other_file_comes_out(door: Door, path: str):
    assert asked(door, f"/{door.token}/{path}")[0] == 404


@pytest.mark.parametrize(
    "wrong",
    [{"path": "/"}, {"path": "/wrong"}, {"origin": "http://evil.example"}, {"origin": None}, {"host": "evil.example"}],
    ids=str,
)
def test_no_websocket_opens_for_a_stranger(door: Door, wrong):
    """What a page of another site can do in the browser of somebody who looks: it has no token, and says its own origin."""
    place = f"localhost:{door.port}"
    given = {"path": f"/{door.token}", "origin": f"http://{place}", "host": place} | wrong
    with pytest.raises(InvalidStatus) as caught, socket.create_connection(("127.0.0.1", door.port)) as made:
        connect(
            f"ws://{given['host']}{given['path']}",
            sock=made,
            origin=given["origin"],
            subprotocols=[f"viser-v{viser.__version__}"],
        )
    assert caught.value.response.status_code == 403


def test_what_is_not_http_is_not_on_the_console(door: Door, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        for data in (b"\x00" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", door.port)) as made:
                made.sendall(data)
        assert asked(door, f"/{door.token}/")[0] == 200
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


GOOD = [
    {"type": "ViewerCameraMessage", "fov": 1.0},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": True}},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": 0.5}},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": "depth"}},
]
BAD = [
    {"type": "ShareUrlRequest"},
    {"type": "FileTransferStartUpload", "filename": "../../x"},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"update_cb": []}},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": True, "props": 1}},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": ["x"]}},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": {"value": "x" * 300}},
    {"type": "GuiUpdateMessage", "uuid": "a", "updates": "value"},
    {"type": "RunJavascriptMessage", "source": "x"},
    {"kind": "x"},
    ["ViewerCameraMessage"],
    None,
]


def test_only_cameras_and_values_are_heard():
    assert all(may_send(msgspec.msgpack.encode(one)) for one in GOOD)
    assert not any(may_send(msgspec.msgpack.encode(one)) for one in BAD)
    assert not any(may_send(one) for one in (b"", b"\xc1", b"\x91" * 100, "text", b"\xff" * 1000))


def test_what_a_page_sends_wrong_is_not_obeyed(viewer: tuple[Door, LiveViewer], monkeypatch: pytest.MonkeyPatch):
    door, made = viewer
    shared: list[str] = []
    monkeypatch.setattr(made._server, "request_share_url", lambda: shared.append("shared"))
    page = Page(door.address)
    page.look()
    (guest,) = until(lambda: list(made._guests._open.values()))
    seen = until(lambda: guest.look)
    for one in BAD:
        page.send(msgspec.msgpack.encode(one))
    page.send(b"\xc1garbage")
    page.look(wxyz=[math.nan] * 4)
    page.look(position=[1e300, 0.0, 0.0])
    page.look(image_height=0)
    page.set("Picture", "__class__")
    page.set("Pixels at rest", "1e9")
    page.set("Noise", 1e300)
    page.set("Time", math.nan)
    page.set("Curve", "../../etc/passwd")
    page.set("Pause", True)  # heard after all of these
    assert until(made._wishes.take) == ["pause"]
    assert guest.look == seen
    assert made._panel.sight == Sight("colour", 256, 0.0)
    assert made._panel.question == (1.0, 7.5)
    assert shared == []
    page.close()
    until(lambda: not made._guests)


def test_a_message_that_is_too_large_ends_its_own_connection_alone(viewer: tuple[Door, LiveViewer]):
    door, made = viewer
    good, bad = Page(door.address), Page(door.address)
    good.look(10)
    bad.look(20)
    until(lambda: len(made._guests) == 2)
    bad.send(b"\x00" * (LARGEST + 1))
    until(lambda: len(made._guests) == 1)
    good.set("Pause", True)
    assert until(made._wishes.take) == ["pause"]
    good.close()
    bad.close()
    until(lambda: not made._guests)


def test_the_text_of_a_run_is_text(viewer: tuple[Door, LiveViewer]):
    """viser's Markdown would let HTML through and read files: nothing of a run may go that way."""
    door, made = viewer
    made._panel.tell("<img src=x onerror=alert(1)> ![a](/etc/passwd)", "![a](/etc/passwd)", "<script>")
    page = Page(door.address)
    page.look()
    until(lambda: page.value("Last") == "<script>")
    assert {part["kind"] for part in page.parts.values()} == {
        *("GuiTextMessage", "GuiButtonMessage", "GuiDropdownMessage", "GuiCheckboxMessage"),
        *("GuiFolderMessage", "GuiUplotMessage", "GuiSliderMessage", "GuiImageMessage"),
    }
    page.close()
