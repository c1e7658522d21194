"""Where the viewer listens, and who comes in. Imports neither torch nor viser, so that a port that is taken costs no time.

Whoever comes in can stop the run. So the address holds a random token, on this machine too, because other accounts of a machine
share its loopback. A page of another site must not get in with the browser of somebody who is in: that needs the token, which
other sites do not see, and an `Origin` and a `Host` that are the viewer's own. `Host` is looked at against DNS rebinding.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from dfw.errors import ConfigError

HERE = "127.0.0.1"
"""Only programs of this machine can connect to it."""
NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of this machine that a browser may use for a viewer that listens on its loopback."""
PORT, TRIES = 7007, 20
"""The first port that is tried where none was asked for, and how many."""


class Door:
    """A socket that listens, and the token that opens it."""

    def __init__(self, host: str = HERE, port: int | None = None) -> None:
        """`port`: None for the first free one from 7007 on, 0 for any.

        Raises ConfigError without viser, and where it cannot listen.
        """
        if find_spec("viser") is None:
            raise ConfigError("the viewer needs the library viser; install it with: pip install 'viser>=1.1.1,<1.2'")
        self.host = host
        self.token = secrets.token_urlsafe(16)
        self.socket = _listening(host, port)
        self.port = int(self.socket.getsockname()[1])

    @property
    def local(self) -> bool:
        """Whether only programs of this machine can connect."""
        return ipaddress.ip_address(self.socket.getsockname()[0]).is_loopback

    @property
    def address(self) -> str:
        """What a browser opens."""
        name = "localhost" if self.local else socket.gethostname() if _is_any(self.host) else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/{self.token}/"

    def sentences(self) -> list[str]:
        """What to print: the address, and how to get there from another machine."""
        found = [f"watch at {self.address}"]
        if self.local:
            tunnel = f"ssh -L {self.port}:localhost:{self.port} {socket.gethostname()}"
            return [*found, f"from another machine, run this there first, and open the same address there: {tunnel}"]
        warning = "whoever reads this address can look, pause and stop; the connection is not encrypted, so prefer ssh"
        return [*found, warning]

    def refusal(self, path: str, headers: Mapping[str, str]) -> str:
        """Says why a request may not come in; nothing where it may. `headers`: of the request, by name in any case."""
        host = headers.get("Host") or ""
        if self.local and _name(host) not in NAMES:
            return f"this viewer is open at {', '.join(NAMES)} only"
        if not self._has_token(path):
            return "open the whole address that dfw printed; it ends in a token"
        origin = headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != host:
            return "pages of other sites may not look here"
        if headers.get("Upgrade") is not None and origin is None:
            return "only a page of this viewer may connect"
        return ""

    def inside(self, path: str) -> str:
        """The path of a request that came in, without the token."""
        return "/" + path.lstrip("/").partition("?")[0].partition("/")[2]

    def close(self) -> None:
        """Stops listening."""
        self.socket.close()

    def _has_token(self, path: str) -> bool:
        given = path.lstrip("/").partition("?")[0].partition("/")[0]
        return secrets.compare_digest(given.encode(), self.token.encode())


def _name(host: str) -> str:
    """The name in a `Host` header, without its port. Empty for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _listening(host: str, port: int | None) -> socket.socket:
    tries = [port] if port is not None else range(PORT, PORT + TRIES)
    try:
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--view-host: {host!r} is not an address of this machine ({error}); write 127.0.0.1") from error
    reason = ""
    for one in tries:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address[0], one, *address[2:]))
            made.listen(16)
        except OSError as error:
            made.close()
            reason = error.strerror or str(error)
            continue
        made.setblocking(False)
        return made
    where = f"port {port}" if port is not None else f"ports {PORT} to {PORT + TRIES - 1}"
    raise ConfigError(f"the viewer cannot listen at {host}, {where}: {reason}; choose another with --view-port, 0 for any")
