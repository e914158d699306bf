"""Reading Traefik's routers from its task's network namespace; errors become TableUnknown."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest
from recorded import read_recording
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.traefik_api import TraefikApi
from runner.platforms.swarm.traefik_routers import Table, TableUnknown
from runner.reconcile.model import Outcome
from runner.reconcile.probes import Http

SITE = Http(
    name="page", target_unit="deploy-dashboard.service", url="https://ci.commoninternet.net/"
)
NODE = "node1"


Data = dict[str, Any]
Change = Callable[[list[Data], Data], object]
"""Changes the services and the task that the Docker API lists."""


class Ask(Protocol):
    """Reads the table, after a change."""

    def __call__(self, change: Change = ...) -> Table | TableUnknown: ...


class Server(ThreadedServer):
    """Responds by path; 404 for unknown ones."""

    def __init__(self, listener: socket.socket, answers: dict[str, str]) -> None:
        self.answers = answers
        self.hosts: set[bytes] = set()
        super().__init__(listener)

    @override
    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        path = request.split(b" ")[1].decode().partition("?")[0]
        self.hosts |= {line for line in request.split(b"\r\n") if line.lower().startswith(b"host:")}
        body = self.answers.get(path)
        status = "404 Not Found" if body is None else "200 OK"
        head, _, text = (body or "").rpartition("\n\n")
        extra = f"{head}\r\n" if head else ""
        connection.sendall(
            f"HTTP/1.1 {status}\r\n{extra}Connection: close\r\nContent-Length:"
            f" {len(text.encode())}\r\n\r\n{text}".encode()
        )


@pytest.fixture
def traefik() -> Iterator[Server]:
    """Start what answers as Traefik's API does, on the loopback of this very process."""
    server = Server(
        socket.create_server(("127.0.0.1", 0)),
        {
            f"/.warm-reconcile/api/{kind}/routers": read_recording(f"{kind}-routers.json")
            for kind in ("http", "tcp")
        },
    )
    yield server
    server.close()


@pytest.fixture
def ask(tmp_path: Path, traefik: Server) -> Iterator[Ask]:
    """Read the table from a Docker API that lists that Traefik, as one task on this node."""
    services: list[dict[str, Any]] = json.loads(read_recording("services.json"))
    (app,) = [each for each in services if "warm-reconcile.table" in each["Spec"]["Labels"]]
    published = {
        "Protocol": "tcp",
        "PublishedPort": 80,
        "TargetPort": traefik._listener.getsockname()[1],
    }
    app["Spec"]["EndpointSpec"] = {"Ports": [published]}
    task = {
        "ID": "task1",
        "ServiceID": app["ID"],
        "NodeID": NODE,
        "DesiredState": "running",
        "Status": {"State": "running", "ContainerStatus": {"PID": os.getpid()}},
        "Spec": {},
    }
    manager = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": NODE}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "docker.sock"))
    listener.listen()
    engine = Server(listener, {"/info": json.dumps({"Swarm": manager})})

    def read(change: Change = lambda _, __: None) -> Table | TableUnknown:
        change(services, task)
        engine.answers |= {"/services": json.dumps(services), "/tasks": json.dumps([task])}
        return TraefikApi(Engine(str(tmp_path / "docker.sock"))).read()

    yield read
    engine.close()


@pytest.fixture
def root(missing: Callable[[str], NoReturn]) -> None:
    """Only root enters a network."""
    if os.geteuid() != 0:
        missing("only root may enter the network of a task")


def test_docker_unreachable_is_reported(tmp_path: Path) -> None:
    """As everywhere, with the socket."""
    untold = TraefikApi(Engine(str(tmp_path / "nothing"))).read()
    assert isinstance(untold, TableUnknown)
    assert "doesn't answer" in untold.reason


def test_a_swarm_without_traefik_is_reported(ask: Ask) -> None:
    """None that has our overlay, at least."""
    untold = ask(lambda services, _: services.pop(0))
    assert untold == TableUnknown("no Traefik on this swarm lists its routers")


def test_several_traefiks_are_reported(ask: Ask) -> None:
    """They may route the same name differently."""

    def more(services: list[dict[str, Any]], _: object) -> None:
        services[1]["Spec"]["Labels"]["warm-reconcile.table"] = "true"

    untold = ask(more)
    assert isinstance(untold, TableUnknown)
    assert untold.reason.startswith("several Traefiks list their routers: site_app, t")


@pytest.mark.parametrize(
    "change",
    [{"NodeID": "node2"}, {"DesiredState": "shutdown"}, {"ServiceID": "another"}],
)
def test_a_task_that_is_not_here_is_not_asked(ask: Ask, change: dict[str, str]) -> None:
    """Its pid would be of another process here."""
    untold = ask(lambda _, task: task.update(change))
    assert isinstance(untold, TableUnknown)
    assert untold.reason.endswith("_app runs on this host")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, "status 404"),
        ({"http": "[]"}, "status 404"),
        ({"http": "no JSON", "tcp": "[]"}, "Expecting value"),
        ({"http": "{}", "tcp": "[1]"}, "no list of routers"),
        ({"http": "X-Next-Page: 2\n\n[]", "tcp": "[]"}, "more than 10000 routers"),
    ],
)
def test_an_invalid_router_list_is_reported(
    ask: Ask, traefik: Server, answers: dict[str, str], reason: str
) -> None:
    """An older overlay, another program, a part of a table."""
    traefik.answers = {f"/.warm-reconcile/api/{k}/routers": v for k, v in answers.items()}
    untold = ask()
    assert isinstance(untold, TableUnknown)
    assert "doesn't list its routers (port " in untold.reason
    assert reason in untold.reason


@pytest.mark.usefixtures("root")
def test_a_process_that_has_ended_is_reported(ask: Ask) -> None:
    """A task may end after Docker listed it."""
    untold = ask(lambda _, task: task["Status"]["ContainerStatus"].update(PID=2**22 + 1))
    assert isinstance(untold, TableUnknown)
    assert "No such file" in untold.reason


@pytest.mark.usefixtures("root")
def test_a_table_is_read_whole(ask: Ask, traefik: Server) -> None:
    """Asked without a host name, which an entrypoint would redirect."""
    table = ask()
    assert isinstance(table, Table)
    assert len(table.routers) == 9
    assert table.unit == "deploy-proxy.service"
    assert table.owners["dashboard"] == frozenset({"deploy-dashboard.service"})
    assert traefik.hosts == {b"Host: "}


@pytest.mark.usefixtures("root")
def test_each_host_name_is_checked_against_the_routers(ask: Ask, tmp_path: Path) -> None:
    """A name that is routed elsewhere, or not yet, fails; an address is not checked."""
    ask()
    traefik_api = TraefikApi(Engine(str(tmp_path / "docker.sock")))
    wrong = Http(name="wrong", target_unit="drone.service", url=SITE.url)
    early = Http(name="early", target_unit="drone.service", url="https://drone.test/")
    numeric = Http(name="numeric", target_unit="drone.service", url="https://127.0.0.1/")
    found = traefik_api.check_targets((SITE, wrong, early, numeric))
    assert [(each.probe, each.outcome) for each in found] == [
        ("route of page", Outcome.PASS),
        ("route of wrong", Outcome.FAIL),
        ("route of early", Outcome.FAIL),
    ]
    assert "served by deploy-dashboard.service" in found[1].reason
    assert found[2].reason == "no router of Traefik matches drone.test"
    assert traefik_api.check_targets((numeric,)) == ()
    assert TraefikApi(Engine(str(tmp_path / "nothing"))).check_targets((SITE,)) == ()
