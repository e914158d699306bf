"""What tasks are told of who may ask, by an engine that has just become a swarm."""

import json
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.reconcile.docker import Docker
from runner.reconcile.engine import Engine
from runner.reconcile.readiness import name_askers, require_gateway

LOOKS = 3
BRIDGE = {"IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]}}
NODES = [{"Status": {"Addr": "127.0.0.1"}}]
SERVICE = {"ports": [{"target": 80, "published": "80", "mode": "host"}]}


class YoungSwarm(ThreadedServer):
    """An engine that has its bridge only when it was asked for a few times."""

    def __init__(self, path: Path) -> None:
        self.looks = 0
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        super().__init__(listener)

    @override
    def serve(self, connection: socket.socket) -> None:
        path = read_request(connection).split(b" ")[1].decode()
        status, body = "200 OK", json.dumps(NODES)
        if "/networks/" in path:
            self.looks += 1
            found = self.looks > LOOKS
            status = "200 OK" if found else "404 Not Found"
            body = json.dumps(BRIDGE if found else {"message": "no such network"})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


@pytest.fixture
def young(tmp_path: Path) -> Generator[YoungSwarm]:
    server = YoungSwarm(tmp_path / "docker.sock")
    yield server
    server.close()


def test_the_host_may_ask_although_its_bridge_comes_late(young: YoungSwarm, tmp_path: Path) -> None:
    """Else a good release is stranded on a boot from scratch: its gate gets 404 for ever."""
    engine = Engine(str(tmp_path / "docker.sock"), 20.0)
    require_gateway(engine, Docker(engine.url))
    assert young.looks == LOOKS + 1
    assert "ClientIP(`172.18.0.1`)" in name_askers(engine, SERVICE)
