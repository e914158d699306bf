"""A server that plays recorded responses of the Docker API."""

import contextlib
import http.server
import json
import socketserver
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from typing_extensions import override


class Playback(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Plays responses, by path; for None the connection breaks off."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.says: dict[str, object] = {}
        super().__init__(str(path), _Player)

    @contextlib.contextmanager
    def lost(self) -> Generator[None]:
        """Answer nothing for a while."""
        says = self.says
        self.says = {**dict.fromkeys(says)}
        yield
        self.says = says


class _Player(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        says = cast("Playback", self.server).says
        path = self.path.partition("?")[0]
        answer = says.get(path, b"")
        if answer is None:
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200 if path in says else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def playing(socket: Path, says: Mapping[str, object]) -> Generator[Playback]:
    """Play a Docker API meanwhile, with these responses to begin with."""
    with Playback(socket) as server, ThreadPoolExecutor(1) as thread:
        server.says |= says
        thread.submit(server.serve_forever, 0.05)
        yield server
        server.shutdown()
