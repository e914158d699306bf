"""An onlooker: asks Traefik's ping over raw sockets, and notes when it went and when it came."""

import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, Self

from rows import BenchError

INTERVAL: Final = 0.002
"""Seconds from one probe to the next."""
TIMEOUT: Final = 0.05
"""Seconds for one answer. Short: what a Traefik that stops has accepted last it may never answer,
and the outage must not be slept through."""
LIMIT: Final = 60.0
"""Seconds after which nothing is asked any more."""

_REQUEST: Final = b"GET /ping HTTP/1.1\r\nHost: ping\r\nConnection: close\r\n\r\n"
_GOOD: Final = b"HTTP/1.1 200 "
_FORGET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset, so that thousands of probes leave nothing in TIME_WAIT."""


def ask(port: int) -> bool | None:
    """Ask once: is it a 200? None if nobody listens, which is what tells old from new."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
            connection.sendall(_REQUEST)
            return connection.recv(len(_GOOD), socket.MSG_WAITALL) == _GOOD
    except ConnectionRefusedError:
        return None
    except OSError:
        return False


class Pings:
    """Watches one port from a thread: its last 200, an outage, and the first 200 after it.

    Times are seconds on the monotonic clock, taken when the answer has been read.
    """

    def __init__(self, port: int, *, serves: bool = True) -> None:
        self._port = port
        self._serves = serves
        """Somebody answers already, and will go first."""
        self._thread = threading.Thread(target=self._watch)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._last_before = 0.0
        self._last_failure = 0.0
        self._first_after = 0.0

    def __enter__(self) -> Self:
        """Begin, and wait until the port is as expected.

        Raises:
            BenchError: it never is.
        """
        self._thread.start()
        if not self._ready.wait(LIMIT):
            self._stop.set()
            raise BenchError(f"not within {LIMIT:g} s: a 200, or nobody, before the outage")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def first(self) -> float:
        """Wait for the first 200 after the outage.

        Raises:
            BenchError: there was no outage, or no end of it.
        """
        self._thread.join()
        if not self._first_after:
            raise BenchError(f"no outage and answer after it within {LIMIT:g} s")
        return self._first_after

    def last(self) -> float:
        """Wait for the first 200 after the outage, and tell the last one before."""
        self.first()
        return self._last_before

    def doubt(self) -> float:
        """How much earlier that 200 could have been had: seconds since the last vain probe."""
        return self.first() - self._last_failure

    def _watch(self) -> None:
        deadline = time.monotonic() + LIMIT
        is_out = False
        while not self._stop.is_set() and time.monotonic() < deadline:
            asked = time.monotonic()
            good = ask(self._port)
            answered = time.monotonic()
            if good and is_out:
                self._first_after = answered
                return
            if good:
                self._last_before = answered
            else:
                self._last_failure = asked
            is_out = is_out or (good is None and (not self._serves or self._last_before > 0))
            if is_out or self._last_before:
                self._ready.set()
            self._stop.wait(max(0.0, asked + INTERVAL - time.monotonic()))
