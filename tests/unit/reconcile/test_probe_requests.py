"""The requests of each kind of probe, the certificates that it trusts, and its kinds of errors."""

import contextlib
import errno
import gc
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from attrs import evolve
from safe_probes import proven
from servers import Certificate, ThreadedServer, read_request
from typing_extensions import override

from runner.reconcile.http_client import _chain, explain
from runner.reconcile.model import Deployment, Outcome, ProbeResult, Release
from runner.reconcile.probes import (
    Http,
    Identity,
    Probe,
    Prober,
    TaskHttp,
    Tcp,
    TraefikPing,
    UnitActive,
)
from runner.reconcile.replies import TASK_HEADER, TOKEN_HEADER, Expected

UNIT = "proxy.service"
DEPLOYMENT = Deployment(Release("3.4.0+v3.5.1", "3.5.1", "d" * 64), "the-token")
AMPLE = 120.0
"""Seconds that no probe needs."""
SHORT = 0.25
"""Seconds for an answer that never comes."""


class Server(ThreadedServer):
    """Answers as the deployment does; records its requests and the host names of TLS."""

    def __init__(self, listener: socket.socket, signed: Certificate | None = None) -> None:
        self.port: int = listener.getsockname()[1]
        self.requests: list[str] = []
        self.names: list[str | None] = []
        self.body = b'{"Version": "3.5.1"}'
        self._context: ssl.SSLContext | None = None
        if signed:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(signed.certificate, signed.key)
            self._context.sni_callback = self._note
        super().__init__(listener)

    def _note(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.names.append(name)

    @override
    def serve(self, connection: socket.socket) -> None:
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True)
        self.requests.append(read_request(connection).decode())
        head = f"HTTP/1.1 200 OK\r\n{TOKEN_HEADER}: the-token\r\n{TASK_HEADER}: task1\r\n"
        length = f"Content-Length: {len(self.body)}\r\n\r\n"
        connection.sendall((head + length).encode() + self.body)
        connection.close()

    @property
    def hosts(self) -> list[str]:
        """List the Host headers of all requests."""
        lines = [line for request in self.requests for line in request.split("\r\n")]
        return [line[len("host:") :].strip() for line in lines if line.lower().startswith("host:")]


@pytest.fixture
def serve() -> Generator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(signed: Certificate | None = None, host: str = "127.0.0.1") -> Server:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        servers.append(Server(socket.create_server((host, 0), family=family), signed))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


Serve = Callable[..., Server]


def ask_all(*probes: Probe, tasks: frozenset[str] | None = None) -> list[ProbeResult]:
    prober = Prober(tuple(map(proven, probes)))
    try:
        return list(prober.ask(Expected(DEPLOYMENT, tasks), AMPLE))
    finally:
        prober.close()


def ask(probe: Probe) -> ProbeResult:
    (found,) = ask_all(probe)
    assert (found.probe, found.target_unit) == (probe.name, probe.target_unit)
    return found


# What is sent -------------------------------------------------------------------------------------


def test_an_identity_over_http_is_asked_without_a_name(serve: Serve) -> None:
    """An entrypoint that redirects does so for every host name, but not without one."""
    server = serve()
    who = Identity(target_unit=UNIT, url=f"http://127.0.0.1:{server.port}/who", timeout=AMPLE)
    assert ask(who).outcome is Outcome.PASS
    assert server.requests[0].startswith("GET /who HTTP/1.1\r\n")
    assert server.hosts == [""]


def test_an_identity_is_asked_at_its_address(
    serve: Serve, make_certificate: Callable[[], Certificate]
) -> None:
    """Over https with the host name of its URL, in the request and in TLS; verified or not."""
    server = serve(make_certificate())
    who = Identity(
        target_unit=UNIT,
        url="https://site.invalid/who",
        address=f"127.0.0.1:{server.port}",
        timeout=AMPLE,
    )
    assert ask(who).reason == "TLS: CERTIFICATE_VERIFY_FAILED"
    assert server.hosts == []
    assert ask(evolve(who, verify_tls=False)).outcome is Outcome.PASS
    assert server.hosts == ["site.invalid"]
    assert set(server.names) == {"site.invalid"}


def test_an_identity_belongs_to_one_of_the_tasks_that_run(serve: Serve) -> None:
    """The answering task is compared with the expected ones."""
    who = Identity(target_unit=UNIT, url=f"http://127.0.0.1:{serve().port}/", timeout=AMPLE)
    for tasks, answer in ((["task0", "task1"], Outcome.PASS), (["task0"], Outcome.FAIL)):
        (found,) = ask_all(who, tasks=frozenset(tasks))
        assert found.outcome is answer


def test_a_task_is_asked_on_the_loopback_for_all_that_it_must_say(serve: Serve) -> None:
    """By port and path; status, headers and text are compared."""
    server = serve()
    task = TaskHttp(
        target_unit=UNIT,
        port=server.port,
        path="/health?a=b",
        headers={TASK_HEADER: "task1"},
        body_contains="3.5",
        timeout=AMPLE,
    )
    assert ask(task).outcome is Outcome.PASS
    assert server.requests[0].startswith("GET /health?a=b HTTP/1.1\r\n")
    assert server.hosts == [f"127.0.0.1:{server.port}"]
    for wrong, reason in [
        (evolve(task, status=204), "status 200, expected 204"),
        (evolve(task, headers={TASK_HEADER: "x"}), f"header {TASK_HEADER} is 'task1', expected"),
        (evolve(task, body_contains="3.6"), "the body does not contain '3.6'"),
    ]:
        assert ask(wrong).reason.startswith(reason)


def test_every_request_wants_the_answer_as_it_is(serve: Serve) -> None:
    """Uncompressed, and by GET, with the host name of its URL."""
    server = serve()
    url = f"http://localhost.invalid:{server.port}/x"
    server.body = b"OK"
    page = Http(name="p", target_unit=UNIT, url=url, address=f"127.0.0.1:{server.port}")
    ping = TraefikPing(target_unit=UNIT, url=f"http://127.0.0.1:{server.port}/x")
    for probe in (page, ping):
        assert ask(evolve(probe, timeout=AMPLE)).outcome is Outcome.PASS
    assert server.hosts == [f"localhost.invalid:{server.port}", f"127.0.0.1:{server.port}"]
    for request in server.requests:
        assert request.startswith("GET /x HTTP/1.1\r\n")
        assert "\r\naccept-encoding: identity\r\n" in request.lower()


def test_an_ipv6_address_is_connected_to(serve: Serve) -> None:
    """In the URL, or instead of its host; and by a port alone."""
    try:
        server = serve(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    address = f"[::1]:{server.port}"
    for probe in (
        Http(name="url", target_unit=UNIT, url=f"http://{address}/", timeout=AMPLE),
        Http(name="at", target_unit=UNIT, url="http://a.invalid/", address=address, timeout=AMPLE),
        Tcp(name="port", target_unit=UNIT, address=address, timeout=AMPLE),
    ):
        assert ask(probe).outcome is Outcome.PASS
    assert server.hosts == [address, "a.invalid"]


# Who is trusted -----------------------------------------------------------------------------------


def test_each_probe_trusts_its_own_authority_and_no_other_ones(
    serve: Serve, make_certificate: Callable[[], Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one round, in any order, and again: a probe that verifies nothing does not affect others.

    Authorities are read once: a later round may have no descriptor left for their files.
    """
    real, read = ssl.create_default_context, list[object]()

    def note(*, cafile: str | None) -> ssl.SSLContext:
        read.append(cafile)
        return real(cafile=cafile)

    monkeypatch.setattr(ssl, "create_default_context", note)
    one, other = make_certificate(), make_certificate()
    servers = serve(one), serve(other)
    probes = [
        Http(
            name=f"{number} {kind}",
            target_unit=UNIT,
            url=f"https://127.0.0.1:{server.port}/",
            ca_file=ca_file,
            verify_tls=kind != "nothing",
            timeout=AMPLE,
        )
        for number, server in enumerate(servers)
        for kind, ca_file in (
            ("nothing", None),
            ("nothing", str(one.certificate)),
            ("one", str(one.certificate)),
            ("other", str(other.certificate)),
            ("system", None),
        )
    ]
    passing = {"0 nothing", "1 nothing", "0 one", "1 other"}
    for order in (probes, probes[::-1]):
        prober = Prober(tuple(map(proven, order)))
        for _ in range(2):
            results = prober.ask(Expected(DEPLOYMENT), AMPLE)
            assert {each.probe for each in results if each.outcome is Outcome.PASS} == passing
        prober.close()
        assert len(read) == 5
        read.clear()


def test_over_http_no_authority_is_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the system's takes long, and needs a descriptor that a later round may lack."""
    read: list[object] = []

    def note(**options: object) -> None:
        read.append(options)

    monkeypatch.setattr(ssl, "create_default_context", note)
    page = Http(name="p", target_unit=UNIT, url=f"http://127.0.0.1:{serve().port}/", timeout=AMPLE)
    assert ask(page).outcome is Outcome.PASS
    assert read == []


# What is left open --------------------------------------------------------------------------------


class Mute(Server):
    """Accepts connections, and sends nothing until they are closed."""

    @override
    def serve(self, connection: socket.socket) -> None:
        while connection.recv(4096):
            pass


def open_files() -> set[tuple[str, str]]:
    """List the descriptors of this process, with their targets."""
    found: set[tuple[str, str]] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add((descriptor.name, str(descriptor.readlink())))
    return found


def test_a_prober_that_is_closed_leaves_nothing_open(
    serve: Serve, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Neither a connection nor what its event loop has opened."""
    page = Http(name="p", target_unit=UNIT, url=f"http://127.0.0.1:{serve().port}/", timeout=AMPLE)
    gc.collect()
    before = open_files()
    prober = Prober((proven(page),))
    assert open_files() - before
    assert prober.ask(Expected(DEPLOYMENT), AMPLE)[0].outcome is Outcome.PASS
    prober.close()
    until(lambda: open_files() <= before)  # the server closes its end a moment later


# How long it took ---------------------------------------------------------------------------------


def test_silence_is_held_against_a_server_but_not_against_a_unit(
    systemctl_says: Callable[..., None],
) -> None:
    """A systemctl that hangs is no evidence about the unit."""
    systemctl_says(script="exec sleep 600")
    server = Mute(socket.create_server(("127.0.0.1", 0)))
    url = f"http://127.0.0.1:{server.port}/"
    silent: list[tuple[Probe, Outcome]] = [
        (Http(name="page", target_unit=UNIT, url=url, timeout=SHORT), Outcome.FAIL),
        (UnitActive(name="unit", target_unit=UNIT, timeout=SHORT), Outcome.INCONCLUSIVE),
    ]
    try:
        for probe, answer in silent:
            found = ask(probe)
            assert (found.outcome, found.reason) == (answer, "no whole answer within 0.25 s")
    finally:
        server.close()


def test_the_latency_is_the_time_of_the_exchange(serve: Serve) -> None:
    """No longer than the whole call; without an answer, no shorter than the limit."""
    gate = threading.Event()

    class Slow(Server):
        @override
        def serve(self, connection: socket.socket) -> None:
            gate.wait(AMPLE)
            super().serve(connection)

    silent = Slow(socket.create_server(("127.0.0.1", 0)))
    page = Http(name="p", target_unit=UNIT, url=f"http://127.0.0.1:{silent.port}/", timeout=SHORT)
    for probe in (page, evolve(page, url=f"http://127.0.0.1:{serve().port}/", timeout=AMPLE)):
        began = time.monotonic()
        found = ask(probe)
        least = SHORT if probe is page else 0.0
        assert least < found.latency <= time.monotonic() - began
    gate.set()
    silent.close()


# Whose fault it is --------------------------------------------------------------------------------

PAGE = Http(name="page", target_unit=UNIT, url="http://127.0.0.1/")
OURS = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "EACCES")
THEIRS = ("ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EPIPE", "ETIMEDOUT", "ECONNABORTED")


def wrapped(error: Exception) -> list[Exception]:
    """Wrap an error as libraries do: as a cause, as a context, in a group, and all of it."""
    caused, during = RuntimeError("caused"), RuntimeError("during")
    caused.__cause__ = error
    during.__context__ = error
    group = ExceptionGroup("several", [ValueError("first"), error])
    deep = RuntimeError("deep")
    deep.__cause__ = ExceptionGroup("group", [caused])
    return [error, caused, during, group, deep]


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_trouble_of_this_host_is_inconclusive(name: str) -> None:
    """However deep the libraries have wrapped it."""
    code: int = getattr(errno, name)
    for error in wrapped(OSError(code, "what the kernel says")):
        answer, reason = explain(error)
        if name in OURS:
            expected = (Outcome.INCONCLUSIVE, "could not probe: what the kernel says")
            assert (answer, reason) == expected
        else:
            assert answer is Outcome.FAIL
            assert reason.startswith("no HTTP answer: ")


def test_trouble_of_this_host_comes_before_that_of_the_server() -> None:
    """One of several attempts was refused, for another there was no descriptor left."""
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    ours = OSError(errno.EMFILE, "too many")
    for errors in ([refused, ours], [ours, refused]):
        assert explain(ExceptionGroup("all", errors))[0] is Outcome.INCONCLUSIVE
    for error in wrapped(refused):
        assert explain(error)[1] == "connection refused"


def test_a_tls_error_has_a_reason() -> None:
    """OpenSSL's reason, or else its text."""
    told = ssl.SSLError(1, "wrong version number")
    told.reason = "WRONG_VERSION_NUMBER"
    assert explain(told)[1] == "TLS: WRONG_VERSION_NUMBER"
    told.reason = ""
    assert explain(told)[1].startswith("TLS: ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("a\nb"), r"no HTTP answer: a\nb"), (ValueError(), "no HTTP answer: ValueError")],
)
def test_any_other_error_is_no_answer(error: Exception, reason: str) -> None:
    """With its printable text, or else its type."""
    assert explain(error) == (Outcome.FAIL, reason)


def test_errors_that_lead_to_each_other_are_looked_at_once() -> None:
    """Python lets a cause lead back to where it came from."""
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, one.__context__, other.__cause__ = other, other, one
    assert _chain(one) == [one, other]
