"""Who comes in: a token, and a Host and an Origin of the viewer's own. What is said where it cannot listen."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dfw.cli.main import main
from dfw.errors import ConfigError
from dfw.viewer.door import PORT, Door


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door(port=0)
    yield made
    made.close()


def headers(door: Door, **changes: str) -> dict[str, str]:
    return {"Host": f"localhost:{door.port}", "Upgrade": "websocket", "Origin": f"http://localhost:{door.port}"} | changes


def test_only_this_machine_hears_it(door: Door):
    assert door.socket.getsockname()[0] == "127.0.0.1"
    assert door.local
    assert len(door.token) >= 20
    assert Door(port=0).token != door.token


def test_the_address_comes_in_and_loses_its_token(door: Door):
    path = door.address.partition(str(door.port))[2]
    assert door.refusal(path, headers(door)) == ""
    assert door.refusal(path, {"Host": f"127.0.0.1:{door.port}"}) == ""
    assert door.inside(path) == "/"
    assert door.inside(f"/{door.token}/assets/a.js?b") == "/assets/a.js"


def test_a_tunnel_to_another_port_comes_in(door: Door):
    """`ssh -L 9000:localhost:7007`: the browser says the port that it knows."""
    assert door.refusal(f"/{door.token}/", headers(door, Host="localhost:9000", Origin="http://localhost:9000")) == ""


@pytest.mark.parametrize("path", ["/", "", "//", "/wrong/", "/?token", "/{token}x/", "/x/{token}/", "/%00/", "/é/"])
def test_without_the_token_nobody_comes_in(door: Door, path: str):
    assert "token" in door.refusal(path.format(token=door.token), headers(door))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7007", "localhost.evil.example", "", "[::1", "192.168.0.1", "0.0.0.0"]
)
def test_a_name_that_points_here_does_not_come_in(door: Door, host: str):
    """DNS rebinding: a page of evil.example whose name now means 127.0.0.1."""
    assert "open at localhost" in door.refusal(f"/{door.token}/", headers(door, Host=host, Origin=f"http://{host}"))


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://127.0.0.1:{port}", "file://", ""]
)
def test_a_page_of_another_site_does_not_come_in(door: Door, origin: str):
    said = door.refusal(f"/{door.token}/", headers(door, Origin=origin.format(port=door.port)))
    assert "other sites" in said


def test_a_websocket_says_where_it_comes_from(door: Door):
    given = headers(door)
    del given["Origin"]
    assert "only a page" in door.refusal(f"/{door.token}/", given)


def test_elsewhere_any_name_comes_in_with_the_token_and_a_warning_is_printed():
    door = Door("0.0.0.0", port=0)
    given = {"Host": "gpu7:1", "Origin": "http://gpu7:1", "Upgrade": "websocket"}
    assert door.refusal(f"/{door.token}/", given) == ""
    assert "token" in door.refusal("/", given)
    assert "other sites" in door.refusal(f"/{door.token}/", given | {"Origin": "http://evil.example"})
    assert "0.0.0.0" not in door.address
    assert "not encrypted" in door.sentences()[1]
    door.close()


def test_from_another_machine_a_sentence_says_how(door: Door):
    assert door.sentences()[0] == f"watch at {door.address}"
    assert f"ssh -L {door.port}:localhost:{door.port} {socket.gethostname()}" in door.sentences()[1]


def test_a_port_that_is_taken_is_said_and_without_a_port_the_next_is_taken(door: Door):
    with pytest.raises(ConfigError, match=rf"port {door.port}: .*choose another with --view-port"):
        Door(port=door.port)
    two = Door(), Door()
    assert PORT <= two[0].port < two[1].port
    for one in two:
        one.close()


def test_a_host_that_is_none_is_said():
    with pytest.raises(ConfigError, match=r"--view-host: 'no such host' is not an address of this machine"):
        Door("no such host", port=0)
    with pytest.raises(ConfigError, match=r"cannot listen at 203\.0\.113\.7"):
        Door("203.0.113.7", port=0)


@pytest.mark.parametrize("arguments", [["run", "dreamfusion", "--view"], ["view", "."]])
def test_without_viser_one_sentence_says_what_to_install(arguments, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "error: the viewer needs the library viser; install it with: pip install 'viser>=1.1.1,<1.2'\n"
    )


@pytest.mark.parametrize("option", [("--view-port", "0"), ("--view-host", "127.0.0.1")])
def test_where_to_listen_without_view_is_a_mistake(option, capsys):
    assert main(["run", "dreamfusion", "--dry-run", *option]) == 2
    assert "write --view too" in capsys.readouterr().err


def test_of_several_processes_only_the_first_listens(monkeypatch: pytest.MonkeyPatch):
    """torchrun starts them with the same command."""

    def forbidden(*_: object) -> None:
        raise AssertionError("a follower listened")

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("dfw.viewer.door.Door", forbidden)
    monkeypatch.setattr("dfw.cli.run._follow", lambda: 7)
    assert main(["run", "playground-2d", "--view"]) == 7


def test_neither_help_nor_a_missing_viser_waits_for_torch():
    code = (
        "import sys; sys.modules['viser'] = None\n"
        "from dfw.cli.main import main\n"
        "codes = [main(['run', 'dreamfusion', '--view']), main(['view', '.']), main(['view', '--help'])]\n"
        "print(codes, sorted({'torch', 'websockets', 'msgspec'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[2, 2, 0] []"
