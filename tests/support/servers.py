"""A TCP server for tests: it accepts connections until its end, each in a thread."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

AMPLE = 120.0
"""Seconds that no thread needs to end."""


@frozen
class Certificate:
    """A certificate that signed itself, and its key."""

    certificate: Path
    key: Path


class ThreadedServer:
    """Passes every connection to ``serve``, which subclasses implement."""

    def __init__(self, listener: socket.socket) -> None:
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._listen(listener)

    def serve(self, connection: socket.socket) -> None:
        """Answer on a connection; it is closed afterwards."""
        raise NotImplementedError

    def leave(self) -> None:
        """Stop listening; open connections stay open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(AMPLE)
        self._listener.close()

    def _listen(self, listener: socket.socket) -> None:
        self._listener = listener
        self._spawn(self._accept)

    def _spawn(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)

            def answer(connection: socket.socket = connection) -> None:
                with contextlib.suppress(OSError), connection:
                    self.serve(connection)

            self._spawn(answer)


def read_request(connection: socket.socket) -> bytes:
    """Read an HTTP request up to the end of its head, or of the connection."""
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(4096)
        if not piece:
            break
        request += piece
    return request
