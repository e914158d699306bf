"""A network namespace of its own, and threads of this process that live in it.

A socket belongs for ever to the namespace of the thread that made it; so tests ask, listen and
count in this process, and still reach nothing but what is inside.
"""

import contextlib
import ctypes
import http.client
import itertools
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen

T = TypeVar("T")

_NEW_NET: Final = 0x40000000
_LISTEN: Final = "0A"
_PORTS: Final = {"http": 80, "https": 443}
PATIENCE: Final = 300.0
"""Seconds until a condition that has to come true counts as missed."""


def wait_for(look: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Look until there is something to see; fail if there is nothing in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if (seen := look()) is not None:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"not within {patience:g} s: {what}")


@frozen
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: str


class Network:
    """A network namespace for a dockerd or for another host, made with this object."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entered = self._make()

    def _make(self) -> ThreadPoolExecutor:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        return ThreadPoolExecutor(1, f"in {self.name}", self._enter)

    @property
    def path(self) -> Path:
        return Path("/run/netns", self.name)

    @property
    def prefix(self) -> list[str]:
        """The prefix of a command that is to run in this namespace."""
        return ["nsenter", f"--net={self.path}"]

    @contextlib.contextmanager
    def joined(self, other: "Network", here: str, there: str) -> Generator[None]:
        """Lay a cable to another namespace; the addresses are of the form 192.0.2.1/24."""
        _ip("-n", self.name, "link", "add", "cable", "type", "veth", "peer", "name", "far")
        _ip("-n", self.name, "link", "set", "far", "netns", other.name, "name", "cable")
        for network, address in ((self, here), (other, there)):
            _ip("-n", network.name, "address", "add", address, "dev", "cable")
            _ip("-n", network.name, "link", "set", "cable", "up")
        try:
            yield
        finally:
            _ip("-n", self.name, "link", "delete", "cable")

    def listening(self) -> set[int]:
        """List the TCP ports with a listener."""
        ports: set[int] = set()
        for table in ("tcp", "tcp6"):
            shown = subprocess.run(
                [*self.prefix, "cat", f"/proc/net/{table}"],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            for line in shown.stdout.splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == _LISTEN:
                    ports.add(int(local.rpartition(":")[2], 16))
        return ports

    def remove(self) -> None:
        """Take it away; what runs in it must have ended."""
        self._entered.shutdown()
        _ip("netns", "delete", self.name)

    def renew(self) -> None:
        """Replace it by a fresh one of the same name, as booting does."""
        self.remove()
        self._entered = self._make()

    def socket(self) -> socket.socket:
        """Make a TCP socket that lives in here."""
        return self._entered.submit(socket.socket).result()

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with self.path.open("rb") as file:
            if libc.setns(file.fileno(), _NEW_NET) != 0:
                raise OSError(ctypes.get_errno(), f"can't enter {self.name}")

    # Asking --------------------------------------------------------------------------------------

    def get(
        self, url: str, *, address: str = "", host: str | None = None, timeout: float = 30.0
    ) -> Reply | None:
        """Send one request on a new connection; None without an answer.

        Args:
            url: http or https; the name in it is what SNI and the header say.
            address: connect to this one instead.
            host: the header, if it is to say something else; it may be empty.
            timeout: in seconds, for each step of the exchange.
        """
        parts = urlsplit(url)
        name = parts.hostname or ""
        connection = http.client.HTTPConnection(name, timeout=timeout)
        try:
            plain = self.socket()
            plain.settimeout(timeout)
            connection.sock = plain
            plain.connect((address or name, parts.port or _PORTS[parts.scheme]))
            if parts.scheme == "https":
                connection.sock = _anybody().wrap_socket(plain, server_hostname=name)
            connection.request("GET", parts.path, headers={"Host": name if host is None else host})
            reply = connection.getresponse()
            body = reply.read().decode("utf-8", "replace")
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, body)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    @contextlib.contextmanager
    def stranger(self, port: int, answer: bytes) -> Generator[None]:
        """Listen on a port and send every client the same bytes; nothing if they are empty."""
        with self.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen()
            thread = threading.Thread(target=_say, args=(listener, answer), daemon=True)
            thread.start()
            yield
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)

    @contextlib.contextmanager
    def load(
        self, url: str, *, address: str = "", host: str | None = None, pause: float = 0.02
    ) -> Generator["Load"]:
        """Send requests without end, and record the results; ``pause`` in seconds."""
        load = Load()
        ended = threading.Event()

        def ask() -> None:
            while not ended.wait(pause):
                load.count(self.get(url, address=address, host=host, timeout=1.0))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield load
        finally:
            ended.set()
            thread.join(PATIENCE)


@frozen
class Load:
    """Results of requests: the time of each, and the status, 0 without an answer."""

    asked: list[tuple[float, int]] = field(factory=list[tuple[float, int]])

    def count(self, reply: Reply | None) -> None:
        self.asked.append((time.monotonic(), reply.status if reply is not None else 0))

    def failed(self, *good: int) -> int:
        """Count those that had none of these answers."""
        return sum(status not in good for _, status in self.asked)

    def longest_outage(self, *good: int) -> float:
        """Measure the longest time between two good answers, in seconds."""
        times = [when for when, status in self.asked if status in good]
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))


def _say(listener: socket.socket, answer: bytes) -> None:
    kept: list[socket.socket] = []
    with contextlib.suppress(OSError):  # the listener was closed
        while True:
            connection, _ = listener.accept()
            if not answer:
                kept.append(connection)  # closing it would be an answer
                continue
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                connection.recv(65536)
                connection.sendall(answer)
    for connection in kept:
        connection.close()


def _anybody() -> ssl.SSLContext:
    """Accept every certificate: a header identifies the server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=PATIENCE)


def clean_environment() -> dict[str, str]:
    """Leave out proxy settings, and those that lead to another Docker."""
    unwanted = ("_proxy", "docker_")
    return {k: v for k, v in os.environ.items() if not any(u in k.lower() for u in unwanted)}
