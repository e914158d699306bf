"""Prerequisites of a stack in the swarm, and the clients that may read the identity."""

import json
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from fake_docker import FakeDocker
from fake_swarm import Json
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.platforms.swarm import prerequisites
from runner.platforms.swarm.docker_cli import Docker
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.prerequisites import (
    name_askers,
    require_externals,
    require_gateway,
    require_nodes,
)
from runner.platforms.swarm.stack import Stacks
from runner.reconcile.errors import DeployError, NotPreparedError

LOOKS = 3
BRIDGE = {"IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]}}
NODES = [{"Status": {"Addr": "127.0.0.1"}}]
SERVICE = {"ports": [{"target": 80, "published": "80", "mode": "host"}]}


class YoungSwarm(ThreadedServer):
    """A dockerd whose bridge appears only after a few requests."""

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


# What a stack takes for given, on the fake Docker engine -----------------------------------------

GIVEN = {
    "networks": {"n": {"external": True, "name": "given"}, "own": {}},
    "secrets": {"s": {"external": True, "name": "given"}},
    "configs": {"c": {"external": True, "name": "given"}, "own": {"file": "x"}},
}
MAKERS: dict[str, Callable[[FakeDocker], None]] = {
    "network": lambda docker: docker.swarm.put_network("given"),
    "secret": lambda docker: docker.swarm.put_secret("given"),
    "config": lambda docker: docker.swarm.put_config({"Name": "given", "Data": ""}),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_missing_object_is_reported_with_the_command_that_creates_it(
    docker: FakeDocker, stacks: Stacks, kind: str
) -> None:
    """A network, a secret and a config of one name are three things; what is its own is none."""
    for other, make in MAKERS.items():
        if other != kind:
            make(docker)
    with pytest.raises(NotPreparedError) as caught:
        require_externals(stacks.engine, GIVEN)
    assert caught.value.message == f"the {kind} given doesn't exist in the swarm"
    assert caught.value.hint.startswith(f"create it: docker {kind} create ")
    assert " given" in caught.value.hint
    MAKERS[kind](docker)
    require_externals(stacks.engine, GIVEN)


HOST_PORT = {"mode": "host", "target": 80, "published": 80}


@pytest.mark.parametrize(
    ("service", "is_refused"),
    [
        ({"ports": [HOST_PORT], "deploy": {"replicas": 3}}, True),
        ({"ports": [HOST_PORT], "deploy": {"replicas": 2}}, False),
        ({"ports": [HOST_PORT]}, False),
        ({"ports": [{**HOST_PORT, "mode": "ingress"}], "deploy": {"replicas": 3}}, False),
        ({"deploy": {"replicas": 3}}, False),
    ],
    ids=["too many", "as many as nodes", "one", "ingress", "no port"],
)
def test_tasks_that_each_hold_a_port_of_their_host(
    docker: FakeDocker, stacks: Stacks, service: Json, *, is_refused: bool
) -> None:
    """There are two nodes that are ready, and one that is not; any service counts."""
    docker.swarm.add_node("second")
    docker.swarm.add_node("third", state="down")
    document = {"services": {"other": {}, "app": service}}
    if not is_refused:
        require_nodes(stacks.engine, document)
        return
    with pytest.raises(DeployError, match=r"service app needs 3 tasks .* only 2 nodes$"):
        require_nodes(stacks.engine, document)


def test_a_bridge_that_never_comes_is_made(
    docker: FakeDocker, stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the options that dockerd itself uses."""
    monkeypatch.setattr(prerequisites, "GATEWAY_PATIENCE", 0.0)
    del docker.swarm.networks["docker_gwbridge"]
    require_gateway(stacks.engine, stacks.docker)
    (command,) = docker.commands
    recorded = docker.swarm.networks["docker_gwbridge"]["Options"]
    assert command == [
        *("network", "create", "--driver=bridge"),
        "--opt=com.docker.network.bridge.name=docker_gwbridge",
        *(f"--opt={key}={recorded[key]}" for key in sorted(recorded) if not key.endswith(".name")),
        "docker_gwbridge",
    ]
    require_gateway(stacks.engine, stacks.docker)
    assert len(docker.commands) == 1


def test_a_bridge_that_comes_while_it_is_made_is_fine(
    docker: FakeDocker, stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dockerd was faster; the command reports that it exists."""
    monkeypatch.setattr(prerequisites, "GATEWAY_PATIENCE", 0.0)
    del docker.swarm.networks["docker_gwbridge"]

    def meanwhile(asked: str) -> None:
        if asked == "network create":
            docker.swarm.put_network("docker_gwbridge", "bridge network")

    docker.slow = meanwhile
    require_gateway(stacks.engine, stacks.docker)


def test_a_bridge_that_cannot_be_made_is_reported(
    docker: FakeDocker, stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks need its address for the identity route."""
    monkeypatch.setattr(prerequisites, "GATEWAY_PATIENCE", 0.0)
    del docker.swarm.networks["docker_gwbridge"]
    docker.failing["network create"] = "could not find an available IPv4 address pool"
    with pytest.raises(
        NotPreparedError, match=r"^the network docker_gwbridge can't be created: .*address pool"
    ):
        require_gateway(stacks.engine, stacks.docker)


def test_who_may_ask_a_service_of_the_routing_mesh(docker: FakeDocker, stacks: Stacks) -> None:
    """Through the mesh this host is seen as an address of it. A node may have none."""
    docker.swarm.add_node("second", address="0.0.0.0")
    docker.swarm.nodes.append({"ID": "third"})
    mesh = docker.swarm.networks["ingress"]["IPAM"]["Config"][0]["Subnet"]
    bridge = docker.swarm.networks["docker_gwbridge"]["IPAM"]["Config"][0]["Gateway"]
    inside = "ClientIP(`127.0.0.0/8`) || ClientIP(`::1`)"
    known = [f"ClientIP(`{each}`)" for each in sorted([mesh, bridge, "127.0.0.1"])]
    assert name_askers(stacks.engine, {}) == " || ".join([inside, *known])
    known.remove(f"ClientIP(`{mesh}`)")
    assert name_askers(stacks.engine, {"ports": [HOST_PORT]}) == " || ".join([inside, *known])
    docker.swarm.networks.clear()
    assert name_askers(stacks.engine, {}) == f"{inside} || ClientIP(`127.0.0.1`)"
