"""The engine against real little servers on a socket: each can fail in its own way."""

import json
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.platforms.swarm.engine_api import Engine, _unframe
from runner.reconcile.errors import EngineUnreachableError

AMPLE = 120.0
"""Seconds; a response that takes longer hangs."""
SHORT = 0.25
"""Seconds for an answer that never comes."""

Handler = Callable[[socket.socket, bytes], None]


class Server(ThreadedServer):
    """Reads one request of every connection, and then does what ``handle`` does."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self._handle = handle
        self.path = str(path)
        self.requests: list[bytes] = []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        super().__init__(listener)

    @override
    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        self.requests.append(request)
        self._handle(connection, request)

    def asked(self) -> list[tuple[str, dict[str, str]]]:
        """List the paths that were asked for, each with its parameters."""
        targets = [urlsplit(request.split(b" ")[1].decode()) for request in self.requests]
        return [(target.path, dict(parse_qsl(target.query))) for target in targets]


Serve = Callable[[Handler], Server]


@pytest.fixture
def serve(tmp_path: Path) -> Generator[Serve]:
    servers: list[Server] = []

    def start(handle: Handler) -> Server:
        servers.append(Server(tmp_path / f"{len(servers)}.sock", handle))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def connect(path: object, timeout: float = AMPLE) -> Engine:
    return Engine(str(path), timeout)


def http(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def replying(answer: object, status: str = "200 OK") -> Handler:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return lambda connection, _: connection.sendall(http(body, status))


def silence(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)


DROPS = 200


def drip(head: bytes, dropped: list[bytes]) -> Handler:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        while len(dropped) < DROPS:
            connection.sendall(b" ")
            dropped.append(b" ")
            time.sleep(0.1)

    return handle


Ask = Callable[[Engine], object]
ASKS: dict[str, Ask] = {
    "info": Engine.info,
    "node": Engine.swarm_node,
    "services": lambda engine: engine.services("s"),
    "tasks": lambda engine: engine.tasks("s"),
    "nodes": Engine.nodes,
    "network": lambda engine: engine.network("proxy"),
    "image": lambda engine: engine.image("traefik:v3"),
}
every_ask = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


# Nobody who could be asked -----------------------------------------------------------------------


@every_ask
def test_without_a_socket_docker_is_unreachable(tmp_path: Path, ask: Ask) -> None:
    """The message names the socket, the hint the unit."""
    with pytest.raises(EngineUnreachableError) as caught:
        ask(connect(tmp_path / "none.sock"))
    assert f"{tmp_path}/none.sock doesn't answer" in caught.value.message
    assert "docker.service" in caught.value.hint


def test_with_a_dead_socket_docker_is_unreachable(tmp_path: Path) -> None:
    """A killed dockerd leaves such a socket; and a file that is not a socket."""
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    (tmp_path / "file").touch()
    for each in (path, tmp_path / "file", tmp_path, tmp_path / ("x" * 200)):
        with pytest.raises(EngineUnreachableError, match="doesn't answer: "):
            connect(each).info()


@every_ask
def test_a_dockerd_that_hangs_is_unreachable(serve: Serve, ask: Ask) -> None:
    """The timeout ends it."""
    with pytest.raises(EngineUnreachableError, match="doesn't answer"):
        ask(connect(serve(silence).path, SHORT))


@pytest.mark.parametrize("head", [b"Content-Length: 60\r\n\r\n", b"X: "], ids=["body", "head"])
def test_a_dockerd_that_responds_byte_by_byte_is_unreachable(serve: Serve, head: bytes) -> None:
    """The limit is for the whole response: a byte that arrives does not restart it."""
    dropped: list[bytes] = []
    with pytest.raises(EngineUnreachableError, match="doesn't answer"):
        connect(serve(drip(head, dropped)).path, 1.0).nodes()
    assert len(dropped) < DROPS


@pytest.mark.parametrize(
    "reply",
    [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]"],
    ids=["nothing", "no http", "cut off"],
)
def test_a_response_that_breaks_off_is_an_error(serve: Serve, reply: bytes) -> None:
    """The dockerd died while it responded."""
    with pytest.raises(EngineUnreachableError, match="doesn't answer: "):
        connect(serve(lambda c, _: c.sendall(reply)).path).nodes()


@every_ask
@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        ("500 Internal Server Error", {"message": "rpc error: no leader"}, "rpc error: no leader"),
        (
            "503 Service Unavailable",
            {"message": "This node is not a swarm manager."},
            "not a swarm",
        ),
        ("500 Internal Server Error", b"oops", "status 500"),
        ("502 Bad Gateway", ["message"], "status 502"),
        ("301 Moved", b"", "status 301"),
        ("400 Bad Request", {"message": "client version is too new"}, "client version"),
    ],
    ids=["500", "503", "no JSON", "no object", "redirect", "400"],
)
def test_an_error_status_is_reported_with_the_message_of_dockerd(
    *, serve: Serve, ask: Ask, status: str, answer: object, said: str
) -> None:
    """A lost quorum is status 500: Docker is unreachable, the swarm is not empty."""
    with pytest.raises(EngineUnreachableError, match=said):
        ask(connect(serve(replying(answer, status)).path))


@every_ask
@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe"], ids=["other", "no text"])
def test_a_response_that_is_not_json_is_an_error(serve: Serve, ask: Ask, body: bytes) -> None:
    """Another server may respond with 200."""
    with pytest.raises(EngineUnreachableError):
        ask(connect(serve(replying(body)).path))


# What is asked and answered ----------------------------------------------------------------------


def test_lists_are_asked_for_by_label(serve: Serve) -> None:
    """Docker filters; the number of tasks is requested with the services."""
    server = serve(replying([{"ID": "1"}]))
    engine = connect(server.path)
    answers = [engine.services("a_b"), engine.services_labelled("k=v & w")]
    answers += [engine.configs_labelled("k=v"), engine.tasks("a_b"), engine.nodes()]
    assert answers == [[{"ID": "1"}]] * 5
    stack = '{"label": ["com.docker.stack.namespace=a_b"]}'
    assert server.asked() == [
        ("/services", {"status": "true", "filters": stack}),
        ("/services", {"status": "true", "filters": '{"label": ["k=v & w"]}'}),
        ("/configs", {"filters": '{"label": ["k=v"]}'}),
        ("/tasks", {"filters": stack}),
        ("/nodes", {"filters": "{}"}),
    ]


def test_what_does_not_exist_is_none(serve: Serve) -> None:
    """404 means None; an object that exists is returned whole."""
    finds: dict[str, Callable[[Engine], object]] = {
        "/networks/proxy": lambda engine: engine.network("proxy"),
        "/configs/c": lambda engine: engine.config("c"),
        "/secrets/s": lambda engine: engine.secret("s"),
        "/images/r.example:5000/a/b:1@sha256:12/json": lambda engine: engine.image(
            "r.example:5000/a/b:1@sha256:12"
        ),
        "/containers/c/json": lambda engine: engine.container("c"),
    }
    nothing = serve(replying({"message": "no such thing"}, "404 Not Found"))
    something = serve(replying({"Id": "1"}))
    for find in finds.values():
        assert find(connect(nothing.path)) is None
        assert find(connect(something.path)) == {"Id": "1"}
    assert [path for path, _ in something.asked()] == list(finds)


@pytest.mark.parametrize(
    ("swarm", "state"),
    [
        ({"LocalNodeState": "inactive", "ControlAvailable": False, "NodeID": ""}, "inactive"),
        ({"LocalNodeState": "active", "ControlAvailable": False, "NodeID": "w"}, "active"),
        ({"LocalNodeState": "pending", "ControlAvailable": True}, "pending"),
        ({"LocalNodeState": "locked"}, "locked"),
        ({}, "inactive"),
    ],
)
def test_only_a_manager_has_a_swarm_node(
    serve: Serve, swarm: dict[str, object], state: str
) -> None:
    """A worker or a node without a swarm can't deploy; the hint starts a swarm."""
    with pytest.raises(EngineUnreachableError, match=rf"not a swarm manager \({state}\)"):
        connect(serve(replying({"Swarm": swarm})).path).swarm_node()
    active = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "n1"}
    assert connect(serve(replying({"Swarm": active})).path).swarm_node() == "n1"


def test_an_unknown_image_has_no_registry_digest(serve: Serve) -> None:
    """The digest of the manifest if the registry has it."""
    yes = serve(replying({"Descriptor": {"digest": "sha256:12"}}))
    assert connect(yes.path).registry_digest("a/b:1") == "sha256:12"
    assert yes.asked() == [("/distribution/a/b:1/json", {})]
    for status in ("401 Unauthorized", "404 Not Found", "500 Internal Server Error"):
        no = serve(replying({"message": "no"}, status))
        assert connect(no.path).registry_digest("a/b:1") is None


def test_a_slow_registry_is_not_a_dead_dockerd(serve: Serve) -> None:
    """Dockerd waits for it, and answers all else: without a network last-good serves."""

    def handle(connection: socket.socket, request: bytes) -> None:
        (silence if b"/distribution/" in request else replying({}))(connection, request)

    path = serve(handle).path
    assert connect(path, SHORT).registry_digest("a/b:1") is None
    assert connect(path).info() == {}


def test_a_restarted_dockerd_is_read_again(tmp_path: Path) -> None:
    """No connection to the one before is in the way."""
    path = tmp_path / "docker.sock"
    engine = connect(path)
    for generation in range(3):
        server = Server(path, replying({"generation": generation}))
        assert engine.info() == {"generation": generation}
        server.close()
        path.unlink()
        with pytest.raises(EngineUnreachableError):
            engine.info()


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"]
)
def test_the_environment_of_the_caller_does_not_matter(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A socket needs no proxy and no certificate."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9/none")
    assert connect(serve(replying({"a": 1})).path).info() == {"a": 1}


# Logs --------------------------------------------------------------------------------------------


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=300))))
def test_unframing_gives_what_was_framed(pieces: list[tuple[int, bytes]]) -> None:
    """Both streams, in the order in which they were written; a piece can be empty."""
    framed = b"".join(frame(stream, text) for stream, text in pieces)
    assert _unframe(framed) == b"".join(text for _, text in pieces)


@given(st.text(st.characters(codec="utf-8", min_codepoint=9)).map(str.encode))
@example(b"12345678")
@example(b"")
def test_a_terminals_log_passes_through(text: bytes) -> None:
    """It has no frames, and no text begins like one."""
    assert _unframe(text) == text


@given(st.binary(max_size=60))
def test_no_log_makes_unframing_raise(log: bytes) -> None:
    """Nothing is added to any log."""
    assert len(_unframe(log)) <= len(log)


def test_errors_of_dockerd_in_a_log_are_unframed_too() -> None:
    """Stream 3 is dockerd's own: why it can't read on."""
    log = frame(1, b"a\n") + frame(3, b"Error grabbing logs: EOF\n")
    assert _unframe(log) == b"a\nError grabbing logs: EOF\n"


def test_the_last_log_lines_are_of_both_streams(serve: Serve) -> None:
    """A few lines; bytes that are no text do no harm."""
    server = serve(replying(frame(2, b"err\n") + frame(1, b"o\xfft\n\n")))
    assert connect(server.path).last_log_lines("c1") == "err\no\ufffdt"
    wanted = {"stdout": "1", "stderr": "1", "tail": "5"}
    assert server.asked() == [("/containers/c1/logs", wanted)]


def test_without_a_log_there_are_no_lines(serve: Serve) -> None:
    """A container of another node, or a log driver that can't be read."""
    for status in ("404 Not Found", "501 Not Implemented"):
        assert not connect(serve(replying({"message": "no"}, status)).path).last_log_lines("c1")
