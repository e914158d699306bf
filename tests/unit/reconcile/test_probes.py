"""Probes against small real servers, each with a fault of its own; no probe may raise or hang."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import contextlib
import errno
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safe_probes import proven
from servers import Certificate, ThreadedServer, read_request
from typing_extensions import override

from runner.reconcile.model import Deployment, Outcome, ProbeResult, Release
from runner.reconcile.probes import Http, Identity, Probe, Prober, Tcp, TraefikPing, UnitActive
from runner.reconcile.replies import BODY_CAP, TOKEN_HEADER, Expected

UNIT = "proxy.service"
DEPLOYMENT = Deployment(Release("3.4.0+v3.5.1", "3.5.1", "d" * 64), "token-of-this-deployment")
AMPLE = 120.0
"""Seconds that no probe needs: a longer wait is a hang."""
SHORT = 0.25
"""Seconds for an answer that never comes."""

Handler = Callable[[socket.socket], None]


class Server(ThreadedServer):
    """Answers every connection, on 127.0.0.1 by default, with ``handle``."""

    def __init__(self, handle: Handler, listener: socket.socket | None = None) -> None:
        self._handle = handle
        listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}/"
        super().__init__(listener)

    @override
    def serve(self, connection: socket.socket) -> None:
        self._handle(connection)


Serve = Callable[[Handler], Server]


@pytest.fixture
def serve() -> Generator[Serve]:
    """Start servers: ``serve(replying(...)).url``."""
    servers: list[Server] = []

    def start(handle: Handler) -> Server:
        servers.append(Server(handle))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def replying(reply: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(reply)

    return handle


def http(status: str = "200 OK", body: bytes = b"OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def wait_for_the_other_end(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def ask_all(*probes: Probe, timeout: float = AMPLE) -> tuple[ProbeResult, ...]:
    prober = Prober(tuple(map(proven, probes)))
    try:
        return prober.ask(Expected(DEPLOYMENT), timeout)
    finally:
        prober.close()


def ask(probe: Probe, timeout: float = AMPLE) -> ProbeResult:
    (result,) = ask_all(probe, timeout=timeout)
    assert (probe.name, probe.target_unit) == (result.probe, result.target_unit)
    assert result.latency >= 0
    return result


def outcome_and_reason(result: ProbeResult) -> tuple[Outcome, str]:
    return result.outcome, result.reason


def page(url: str, **changes: object) -> Http:
    return evolve(Http(name="page", target_unit=UNIT, url=url, timeout=AMPLE), **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# What passes -------------------------------------------------------------------------------------


def test_a_page_as_expected_passes(serve: Serve) -> None:
    """Status, headers and body all match; the evidence is kept."""
    server = serve(replying(http("418 Teapot", b"all is well", X_Served_By="traefik")))
    result = ask(
        page(
            server.url,
            status=418,
            headers={"x-served-by": "traefik"},
            body="all is well",
            body_contains="well",
        )
    )
    assert (Outcome.PASS, "status 418 as expected") == outcome_and_reason(result)
    assert (418, "all is well", False) == (result.status, result.excerpt, result.terminal)


def test_a_body_without_length_ends_with_the_connection(serve: Serve) -> None:
    """An answer as old as HTTP/1.0 is an answer."""
    server = serve(replying(b"HTTP/1.0 200 OK\r\n\r\nOK"))
    assert Outcome.PASS is ask(page(server.url, body="OK")).outcome


def test_a_ping_is_ok_and_nothing_else(serve: Serve) -> None:
    """Traefik's ping answers 200 and OK, whole."""
    for reply, expected in [
        (http(), (Outcome.PASS, "status 200 as expected")),
        (http(body=b"OK\n"), (Outcome.FAIL, "the body is not 'OK'")),
        (http(body=b"NOT OK"), (Outcome.FAIL, "the body is not 'OK'")),
        (http("503 Busy"), (Outcome.FAIL, "status 503, expected 200")),
    ]:
        ping = TraefikPing(target_unit=UNIT, url=serve(replying(reply)).url, timeout=AMPLE)
        assert expected == outcome_and_reason(ask(ping))


# What is answered, but wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "changes", "reason"),
    [
        (http("500 Oops"), {}, "status 500, expected 200"),
        (http("404 Not Found"), {"status": 204}, "status 404, expected 204"),
        (http(), {"headers": {"X-A": "b"}}, "header X-A is None, expected 'b'"),
        (http(X_A="c"), {"headers": {"X-A": "b"}}, "header X-A is 'c', expected 'b'"),
        (http(X_A="b, b"), {"headers": {"X-A": "b"}}, "header X-A is 'b, b', expected 'b'"),
        (http(), {"body": ""}, "the body is not ''"),
        (http(body=b"ok"), {"body": "OK"}, "the body is not 'OK'"),
        (http(body=b"\xff"), {"body": "OK"}, "the body is not 'OK'"),
        (http(), {"body_contains": "well"}, "the body does not contain 'well'"),
    ],
    ids=[
        *("500", "404", "no header", "other header", "header twice", "body too long"),
        *("other body", "no text", "not contained"),
    ],
)
def test_a_wrong_answer_fails_and_names_the_difference(
    serve: Serve, reply: bytes, changes: dict[str, object], reason: str
) -> None:
    """The first difference is the reason."""
    assert (Outcome.FAIL, reason) == outcome_and_reason(
        ask(page(serve(replying(reply)).url, **changes))
    )


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("http://127.0.0.1:1/login", "http://127.0.0.1:1/login"),
        ("/login", "/login"),
        ("\x1b[31m", r"\\x1b[31m"),
    ],
    ids=["absolute", "relative", "with an escape sequence"],
)
def test_a_redirect_is_not_followed_and_names_where_it_leads(
    serve: Serve, location: str, shown: str
) -> None:
    """Another page's 200 is not this page's."""
    target = serve(replying(http()))
    location = location.replace("127.0.0.1:1", target.address)
    result = ask(page(serve(replying(http("302 Found", Location=location))).url))
    shown = shown.replace("127.0.0.1:1", target.address).replace("\\\\", "\\")
    assert result.outcome is Outcome.FAIL
    if "\x1b" not in location:
        assert f"status 302, expected 200 (redirect to {shown})" == result.reason
    assert result.reason.isprintable()
    assert 0 == target.connections


def test_a_redirect_can_be_expected(serve: Serve) -> None:
    """For an entry point that redirects everything to HTTPS."""
    server = serve(replying(http("301 Moved", Location="https://site.example/")))
    probe = page(server.url, status=301, headers={"Location": "https://site.example/"})
    assert Outcome.PASS is ask(probe).outcome


def test_a_huge_body_is_cut_and_fails(serve: Serve) -> None:
    """No health page is so large, and no gate reads a download to its end."""
    server = serve(replying(http(body=b"x" * (4 * BODY_CAP))))
    result = ask(page(server.url))
    assert (Outcome.FAIL, f"the body is larger than {BODY_CAP} bytes") == outcome_and_reason(result)
    assert len(result.excerpt) < 300


def test_a_body_of_exactly_the_cap_passes(serve: Serve) -> None:
    """The limit itself is allowed."""
    server = serve(replying(http(body=b"x" * BODY_CAP)))
    assert Outcome.PASS is ask(page(server.url)).outcome


def test_a_body_one_byte_beyond_the_cap_fails(serve: Serve) -> None:
    """Also where what arrived before that byte was exactly the limit."""
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    body = chunk * (BODY_CAP // 0x1000) + b"1\r\nx\r\n0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    result = ask(page(serve(replying(head + body)).url))
    assert (Outcome.FAIL, f"the body is larger than {BODY_CAP} bytes") == outcome_and_reason(result)


def test_the_evidence_is_printable(serve: Serve) -> None:
    """Evidence reaches a terminal and a log: no control characters, and a bounded length."""
    server = serve(replying(http(body=b"\x1b[31m\x00\xff" + b"x" * 1000)))
    result = ask(page(server.url, body="OK"))
    assert result.excerpt.isprintable()
    assert result.excerpt.startswith(r"\x1b[31m\x00")
    assert result.excerpt.endswith("x…")
    assert len(result.excerpt) < 300


# What never becomes an answer --------------------------------------------------------------------


def say_nothing(connection: socket.socket) -> None:
    wait_for_the_other_end(connection)


def drip(head: bytes, drop: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        connection.settimeout(0.02)
        while True:
            connection.sendall(drop)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return

    return handle


def begin(head: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        connection.sendall(head)
        wait_for_the_other_end(connection)

    return handle


def flood(head: bytes, piece: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return handle


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    "handle",
    [
        say_nothing,
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        drip(OK_HEAD, b"x"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        begin(OK_HEAD),
        begin(b"HTTP/1.1 200 OK\r\n"),
    ],
    ids=[
        *("silence", "slow status line", "slow headers", "slow body", "slow chunks"),
        *("endless 100 Continue", "headers, then silence", "half of the headers, then silence"),
    ],
)
def test_a_slow_answer_ends_at_the_timeout(serve: Serve, handle: Handler) -> None:
    """The limit is for the whole exchange: no arriving byte restarts it."""
    result = ask(page(serve(handle).url, timeout=SHORT))
    assert (Outcome.FAIL, f"no whole answer within {SHORT:g} s") == outcome_and_reason(result)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n" * 500),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 500),
        (b"", b"x" * 4096),
    ],
    ids=["body", "chunks", "headers", "status line"],
)
def test_an_endless_body_is_cut(serve: Serve, head: bytes, piece: bytes) -> None:
    """A flood fails by its size, long before the timeout."""
    result = ask(page(serve(flood(head, piece)).url))
    assert result.outcome is Outcome.FAIL
    assert "no whole answer" not in result.reason


def test_a_round_takes_no_longer_than_the_gate_has_left(serve: Serve) -> None:
    """The seconds left of the gate end a probe with a longer timeout."""
    result = ask(page(serve(say_nothing).url), timeout=SHORT)
    assert (Outcome.FAIL, f"no whole answer within {SHORT:g} s") == outcome_and_reason(result)


def test_no_time_left_is_no_answer_and_no_error(serve: Serve) -> None:
    """A gate at its deadline runs a round with 0 s left; that fails like any timeout."""
    for probe in (
        page(serve(say_nothing).url),
        Tcp(name="port", target_unit=UNIT, address="127.0.0.1:9", timeout=AMPLE),
    ):
        assert Outcome.FAIL is ask(probe, timeout=0.0).outcome


def test_the_slowest_probe_does_not_hold_the_others_up(serve: Serve) -> None:
    """All run at once, each with its own limit; results keep the order of the config."""
    silent, good = serve(say_nothing), serve(replying(http()))
    results = ask_all(
        evolve(page(silent.url, timeout=SHORT), name="first"),
        evolve(page(good.url), name="second"),
        evolve(page(silent.url, timeout=SHORT), name="third"),
    )
    assert [("first", Outcome.FAIL), ("second", Outcome.PASS), ("third", Outcome.FAIL)] == [
        (result.probe, result.outcome) for result in results
    ]


def close_at_once(connection: socket.socket) -> None:
    connection.close()


def reset_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.parametrize(
    "handle",
    [
        close_at_once,
        reset_at_once,
        replying(b""),
        replying(b"SSH-2.0-OpenSSH_9.2\r\n"),
        replying(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))),
        replying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nOK"),
        replying(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nOK"),
        replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        replying(b"HTTP/1.1 2000 OK\r\n\r\n"),
        replying(http("302 Found", Location="http://[::1")),
        replying(http("302 Found", Location="http://\xff\xfe:99999999/")),
        replying(b"\n" * 5000),
    ],
    ids=[
        *("close", "reset", "empty", "SSH", "TLS", "short body", "no length", "no chunk"),
        *("no status", "broken location", "broken host", "line feeds"),
    ],
)
def test_an_answer_that_is_no_http_fails_with_a_reason(serve: Serve, handle: Handler) -> None:
    """Another protocol on the port is not the probed page."""
    result = ask(page(serve(handle).url))
    assert result.outcome is Outcome.FAIL
    assert result.reason.isprintable()
    assert not result.terminal


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("kind", ["http", "https", "tcp", "identity", "ping"])
def test_a_refused_connection_is_a_failure_and_not_terminal(kind: str) -> None:
    """Every start begins with refused connections."""
    port = free_port()
    url = f"http{'s' if kind == 'https' else ''}://127.0.0.1:{port}/"
    probes: dict[str, Probe] = {
        "http": page(url),
        "https": page(url),
        "tcp": Tcp(name="port", target_unit=UNIT, address=f"127.0.0.1:{port}"),
        "identity": Identity(target_unit=UNIT, url=url),
        "ping": TraefikPing(target_unit=UNIT, url=url),
    }
    result = ask(probes[kind])
    assert (Outcome.FAIL, "connection refused") == outcome_and_reason(result)
    assert not result.terminal


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("127.0.0.1:{}/%zz?%", b"GET /%zz?% HTTP/1.1"),
        ("a@127.0.0.1:{}/", b"GET / HTTP/1.1"),
        ("127.0.0.1:{}", b"GET / HTTP/1.1"),
        ("127.0.0.1:{}/a/../b/./#c", b"GET /b/ HTTP/1.1"),
    ],
)
def test_an_odd_url_is_answered_like_any_other(serve: Serve, path: str, asked: bytes) -> None:
    """Every URL that the config accepts is requested, and its answer counts."""
    requests: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        requests.append(read_request(connection).partition(b"\r\n")[0])
        connection.sendall(http())

    result = ask(page("http://" + path.format(serve(handle).port)))
    assert (Outcome.PASS, [asked]) == (result.outcome, requests), result


@pytest.mark.parametrize(
    ("url", "address"), [("http://[::1]:{}/", None), ("http://a.test/", "[::1]:{}")]
)
def test_an_address_of_ipv6_is_asked(url: str, address: str | None) -> None:
    """Its brackets are no part of the address; a host without IPv6 can't ask."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        probe = page(url.format(9), address=address and address.format(9))
        assert Outcome.INCONCLUSIVE is ask(probe).outcome
        return
    server = Server(replying(http()), listener)
    try:
        probe = page(url.format(server.port), address=address and address.format(server.port))
        assert Outcome.PASS is ask(probe).outcome
    finally:
        server.close()


def test_proxies_of_the_environment_are_ignored(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate probes the app itself, whatever proxy a shell or a unit file has set."""
    dead = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
        monkeypatch.setenv(name.lower(), dead)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert Outcome.PASS is ask(page(serve(replying(http())).url)).outcome


def test_no_connection_is_kept_between_rounds(serve: Serve) -> None:
    """A kept connection could still lead to an old instance that is draining."""
    server = serve(replying(http(Connection="keep-alive")))
    prober = Prober((proven(page(server.url)),))
    for rounds in (1, 2, 3):
        assert Outcome.PASS is prober.ask(Expected(DEPLOYMENT), AMPLE)[0].outcome
        assert rounds == server.connections
    prober.close()


def test_an_address_is_connected_to_and_the_name_is_sent(serve: Serve) -> None:
    """No resolver is used: the host of the URL goes into the request, not into the connection."""
    requests: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        connection.sendall(http())

    server = serve(handle)
    probe = page("http://site.invalid:8080/health?a=b", address=server.address)
    assert Outcome.PASS is ask(probe).outcome
    (request,) = requests
    assert request.startswith(b"GET /health?a=b HTTP/1.1\r\n")
    assert 1 == request.lower().count(b"\r\nhost: ")
    assert b"\r\nhost: site.invalid:8080\r\n" in request.lower()


# TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(make_certificate: Callable[[], Certificate]) -> Certificate:
    return make_certificate()


@pytest.fixture
def serve_tls(serve: Serve, certificate: Certificate) -> Callable[[list[str | None]], Server]:
    """Serve a good page over TLS, and record the host names of the clients."""

    def start(names: list[str | None]) -> Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)

        def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            names.append(name)

        context.sni_callback = note

        def handle(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secure:
                read_request(secure)
                secure.sendall(http())

        server = serve(handle)
        server.url = f"https://{server.address}/"
        return server

    return start


ServeTls = Callable[[list[str | None]], Server]


def test_a_self_signed_certificate_fails(serve_tls: ServeTls) -> None:
    """Verification is on unless it is turned off, and its error is the reason."""
    result = ask(page(serve_tls([]).url))
    assert (Outcome.FAIL, "TLS: CERTIFICATE_VERIFY_FAILED") == outcome_and_reason(result)


def test_verification_can_be_turned_off(serve_tls: ServeTls) -> None:
    """A host's own certificate is good enough for a health page, if the operator says so."""
    server = serve_tls([])
    assert Outcome.PASS is ask(page(server.url, verify_tls=False)).outcome
    other_name = page("https://other.invalid/", address=server.address, verify_tls=False)
    assert Outcome.PASS is ask(other_name).outcome


def test_a_ca_file_is_trusted(serve_tls: ServeTls, certificate: Certificate) -> None:
    """One certificate can be trusted without the authorities of the system."""
    ca_file = str(certificate.certificate)
    assert Outcome.PASS is ask(page(serve_tls([]).url, ca_file=ca_file)).outcome


def test_the_name_of_the_url_is_asked_for_and_verified(
    serve_tls: ServeTls, certificate: Certificate
) -> None:
    """With an address given, SNI and the certificate's name are still those of the URL."""
    names: list[str | None] = []
    server, ca_file = serve_tls(names), str(certificate.certificate)
    good = page("https://site.invalid/", address=server.address, ca_file=ca_file)
    assert Outcome.PASS is ask(good).outcome
    assert ["site.invalid"] == names
    bad = page("https://other.invalid/", address=server.address, ca_file=ca_file)
    assert (Outcome.FAIL, "TLS: CERTIFICATE_VERIFY_FAILED") == outcome_and_reason(ask(bad))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["no", "empty", "garbage"])
def test_an_unreadable_ca_file_is_inconclusive(
    serve_tls: ServeTls, tmp_path: Path, content: bytes | None
) -> None:
    """The host of the run lacks the file: no evidence about the release."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    result = ask(page(serve_tls([]).url, ca_file=str(ca_file)))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.reason.startswith("could not probe: ")


def test_a_server_without_tls_fails_a_tls_probe_and_the_other_way_round(
    serve: Serve, serve_tls: ServeTls
) -> None:
    """The wrong protocol on the right port is a failure with a reason."""
    plain = serve(lambda connection: connection.sendall(http("400 Bad Request")))
    result = ask(page(plain.url.replace("http:", "https:")))
    assert result.outcome is Outcome.FAIL
    result = ask(page(serve_tls([]).url.replace("https:", "http:")))
    assert result.outcome is Outcome.FAIL


# Identity ----------------------------------------------------------------------------------------


def who(url: str) -> Identity:
    return Identity(target_unit=UNIT, url=url, timeout=AMPLE)


def identified(body: bytes, token: str | None = DEPLOYMENT.token, status: str = "200 OK") -> bytes:
    headers = {} if token is None else {TOKEN_HEADER: token}
    return http(status, body, **headers)


RIGHT = b'{"Version": "3.5.1", "Codename": "chabichou"}'


def test_the_right_token_and_version_pass(serve: Serve) -> None:
    """Exactly this deployment answers, with the program of its release."""
    assert Outcome.PASS is ask(who(serve(replying(identified(RIGHT))).url)).outcome


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            identified(RIGHT, None),
            "no X-Warm-Reconcile-Token header: this is not the Traefik that was deployed",
        ),
        (identified(RIGHT, ""), "another deployment answers: its token is a different one"),
        (identified(RIGHT, "old"), "another deployment answers: its token is a different one"),
        (
            identified(b"", "old", "404 Not Found"),
            "another deployment answers: its token is a different one",
        ),
        (
            identified(RIGHT, DEPLOYMENT.token.upper()),
            "another deployment answers: its token is a different one",
        ),
        (
            identified(RIGHT, f"{DEPLOYMENT.token}, old"),
            "another deployment answers: its token is a different one",
        ),
        (
            identified(b'{"Version": "3.5.0"}'),
            "version 3.5.0 answers, expected 3.5.1",
        ),
        (
            identified(b'{"Version": "\\u001b[31m"}'),
            r"version \x1b[31m answers, expected 3.5.1",
        ),
        (identified(b'{"Version": 3.5}'), "version 3.5 answers, expected 3.5.1"),
        (identified(b'{"version": "3.5.1"}'), "the body names no Version"),
        (identified(b"<html>3.5.1</html>"), "the body names no Version"),
        (identified(b'["3.5.1"]'), "the body names no Version"),
        (identified(b"null"), "the body names no Version"),
        (identified(b"\xff\xfe"), "the body names no Version"),
        (identified(b""), "the body names no Version"),
        (identified(b"[" * 20_000), "the body names no Version"),
        (identified(b'{"Version": ' + b"1" * 5000 + b"}"), "the body names no Version"),
    ],
    ids=[
        *("no token", "empty token", "other token", "other token and 404", "capitals"),
        *("two tokens", "other version", "escape sequence", "number", "no version", "HTML"),
        *("list", "null", "no UTF-8", "nothing", "deep", "long number"),
    ],
)
def test_any_other_instance_fails(serve: Serve, reply: bytes, reason: str) -> None:
    """An old instance, another program, a foreign server: each has its own reason."""
    assert (Outcome.FAIL, reason) == outcome_and_reason(ask(who(serve(replying(reply)).url)))


def test_a_missing_route_is_reported_as_a_missing_identity(serve: Serve) -> None:
    """Traefik without its api, or without our file, answers 404: the reason names both."""
    result = ask(who(serve(replying(http("404 Not Found"))).url))
    assert result.outcome is Outcome.FAIL
    assert result.reason.startswith("status 404, expected 200: no identity")


def test_a_server_that_echoes_every_request_does_not_pass(serve: Serve) -> None:
    """The request does not contain the token, so only the deployment can return it."""
    seen: list[bytes] = []

    def echo(connection: socket.socket) -> None:
        request = read_request(connection)
        seen.append(request)
        headers = request.split(b"\r\n", 1)[1].split(b"\r\n\r\n", 1)[0]
        body = RIGHT + request
        connection.sendall(
            b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (headers, len(body), body)
        )

    result = ask(who(serve(echo).url))
    assert (
        Outcome.FAIL,
        "no X-Warm-Reconcile-Token header: this is not the Traefik that was deployed",
    ) == outcome_and_reason(result)
    assert DEPLOYMENT.token.encode() not in seen[0]


# TCP ---------------------------------------------------------------------------------------------


def test_a_port_that_accepts_passes(serve: Serve) -> None:
    """Nothing is sent, and the connection is closed again."""
    closed = threading.Event()

    def handle(connection: socket.socket) -> None:
        wait_for_the_other_end(connection)
        closed.set()

    probe = Tcp(name="port", target_unit=UNIT, address=serve(handle).address, timeout=AMPLE)
    prober = Prober((proven(probe),))
    assert (Outcome.PASS, "accepts connections") == outcome_and_reason(
        prober.ask(Expected(DEPLOYMENT), AMPLE)[0]
    )
    assert closed.wait(AMPLE)
    prober.close()


@pytest.mark.parametrize("address", ["[::1]:{}", "::1:{}"])
def test_an_ipv6_port_is_asked_too(address: str) -> None:
    """Brackets or not, the address is one."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        port = listener.getsockname()[1]
        probe = Tcp(name="port", target_unit=UNIT, address=address.format(port), timeout=AMPLE)
        assert Outcome.PASS is ask(probe).outcome


# Units -------------------------------------------------------------------------------------------


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a ``systemctl`` of our own first on the PATH; its arguments go to ``asked``."""

    def install(script: str) -> Path:
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return tmp_path / "asked"

    return install


Systemctl = Callable[[str], Path]


def unit(timeout: float = AMPLE) -> UnitActive:
    return UnitActive(name="active", target_unit="deploy-proxy.service", timeout=timeout)


def test_an_active_unit_passes(systemctl: Systemctl) -> None:
    """The command names exactly this unit, whose name can't be taken for an option."""
    asked = systemctl("echo active")
    assert (Outcome.PASS, "the unit is active") == outcome_and_reason(ask(unit()))
    assert ["--", "deploy-proxy.service"] == asked.read_text().splitlines()[-2:]


@pytest.mark.parametrize(
    ("state", "terminal"),
    [("failed", True), ("inactive", False), ("activating", False), ("deactivating", False)],
)
def test_another_state_fails_and_only_failed_is_final(
    systemctl: Systemctl,
    state: str,
    terminal: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A unit that is on its way may still arrive; one that has failed will not."""
    systemctl(f"echo {state}")
    result = ask(unit())
    assert (Outcome.FAIL, f"the unit is {state}") == outcome_and_reason(result)
    assert terminal is result.terminal


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Failed to connect to bus' >&2; exit 1",
        "exit 1",
        "exit 0",
        "echo active; exit 4",
        "echo broken",
        "printf 'active\\nfailed\\n'",
        r"printf '\033[31mactive'",
        r"printf '\377\377'",
        "kill -9 $$",
    ],
    ids=[
        *("no bus", "no reason", "no answer", "error after all", "no state", "two states"),
        *("coloured", "no text", "killed"),
    ],
)
def test_garbage_from_systemctl_is_no_evidence(systemctl: Systemctl, script: str) -> None:
    """If systemctl fails, or prints an unknown state, the result is inconclusive."""
    systemctl(script)
    result = ask(unit())
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.reason.isprintable()
    assert not result.terminal


def test_a_host_without_systemctl_is_no_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing program is trouble on this host."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (Outcome.INCONCLUSIVE, "systemctl: No such file or directory") == outcome_and_reason(
        ask(unit())
    )


def test_a_systemctl_that_cannot_be_executed_is_no_evidence(
    systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise one that the kernel refuses to run."""
    program = systemctl("").parent / "bin" / "systemctl"
    program.write_bytes(b"\x7fELF")
    monkeypatch.setenv("PATH", str(program.parent))
    assert (Outcome.INCONCLUSIVE, "systemctl: Exec format error") == outcome_and_reason(ask(unit()))


ASK_AGAIN = """
import os, sys
from runner.reconcile.replies import Expected
from runner.reconcile.probes import Prober
from safe_probes import proven
from runner.reconcile.probes import Http, Tcp, UnitActive
from runner.reconcile.model import Deployment, Release

deployment = Deployment(Release("1", "1", "d"), "t")
url, seconds, rounds = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
common = {"name": "it", "target_unit": "a.service", "timeout": seconds}
probe = Http(url=url, verify_tls=False, **common) if url else UnitActive(**common)
prober = Prober((proven(probe),))
for _ in range(rounds):
    (result,) = prober.ask(Expected(deployment), 120.0)
    print(result.reason, len(os.listdir("/proc/self/fd")), flush=True)
"""


ROUNDS = 12
"""Number of rounds: enough to distinguish a file that each round leaves from one that ends late."""


def ask_again(
    start_python: Callable[..., subprocess.Popen[str]], url: str, seconds: float
) -> tuple[set[str], bool]:
    """Ask in a process of its own; fail if a round never ends.

    Return the reasons, and whether each round leaves a file open.
    """
    process = start_python(ASK_AGAIN, url, str(seconds), str(ROUNDS))
    try:
        out, err = process.communicate(timeout=ROUNDS * seconds + AMPLE)
    except subprocess.TimeoutExpired:
        pytest.fail("a round outlived its timeout")
    # Python 3.11 logs a child that has ended right before asyncio looked for it.
    assert [] == [line for line in err.splitlines() if "Unknown child process" not in line]
    reasons, files = zip(*(line.rsplit(" ", 1) for line in out.splitlines()), strict=True)
    assert len(reasons) == ROUNDS
    return set(reasons), int(files[-1]) - int(files[0]) >= ROUNDS / 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exec sleep 600", "no whole answer within {:.2g} s"),
        ("sleep 600 & echo $! >> {}; wait", "no whole answer within {:.2g} s"),
        ("sleep 600 & echo $! >> {}", "systemctl: no answer"),
    ],
    ids=["itself", "with its child", "only its child"],
)
def test_a_systemctl_that_hangs_ends_at_the_timeout(
    systemctl: Systemctl,
    tmp_path: Path,
    start_python: Callable[..., subprocess.Popen[str]],
    enough: Callable[[Callable[[float], bool]], None],
    script: str,
    reason: str,
) -> None:
    """The limit holds even where a child of systemctl keeps its output open."""
    pids = tmp_path / "pid"
    pids.touch()
    systemctl(script.format(pids))
    try:
        enough(lambda s: ask_again(start_python, "", s) == ({reason.format(s)}, False))
    finally:
        for pid in map(int, pids.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_handshake_that_hangs_ends_at_the_timeout_and_leaves_nothing_open(
    serve: Serve, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """A connection that never became TLS is closed with its round, too.

    Only where connecting takes less than a fifth of the time: so a slow machine gets more of it.
    """
    url = serve(say_nothing).url.replace("http:", "https:")
    assert any(
        ({f"no whole answer within {seconds:.2g} s"}, False)
        == ask_again(start_python, url, seconds)
        for seconds in (0.1, 0.5, 2.5, 4.5)  # less than httpx gives a handshake by itself, 5 s
    )


# Trouble on the asking side ----------------------------------------------------------------------

OUT_OF_FILES = """
import resource, socket, sys
from runner.reconcile.replies import Expected
from runner.reconcile.probes import Prober
from safe_probes import proven
from runner.reconcile.probes import Http, Identity, Tcp, UnitActive
from runner.reconcile.model import Deployment, Release

address, warm = sys.argv[1], sys.argv[2] == "warm"
common = {"target_unit": "a.service"}
deployment = Deployment(Release("1", "1", "d"), "t")
prober = Prober(tuple(map(proven, (
    Http(name="http", url=f"http://{address}/", **common),
    Http(name="https", url=f"https://{address}/", verify_tls=False, **common),
    Identity(url=f"http://{address}/", **common),
    Tcp(name="tcp", address=address, **common),
    UnitActive(name="unit", **common),
))))
if warm:
    prober.ask(Expected(deployment), 0.2)
with socket.socket() as probe:
    lowest = probe.fileno()
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, lowest + 100))
try:
    results = prober.ask(Expected(deployment), 120.0)
finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 100, lowest + 100))
for result in results:
    print(result.probe, result.outcome.name, result.reason)
"""


@pytest.mark.parametrize("when", ["warm", "cold"])
def test_a_host_out_of_file_descriptors_is_inconclusive(
    serve: Serve, run_python: Callable[..., subprocess.CompletedProcess[str]], when: str
) -> None:
    """In the first round as in any other."""
    done = run_python(OUT_OF_FILES, serve(replying(http())).address, when)
    assert 0 == done.returncode, done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [(name, "INCONCLUSIVE") for name in ("http", "https", "identity", "tcp", "unit")] == [
        (name, answer) for name, answer, _ in lines
    ]
    assert [True] * 5 == [os.strerror(errno.EMFILE) in reason for _, _, reason in lines]


# Anything at all ---------------------------------------------------------------------------------


class Anything:
    """Replies with the bytes that the test has set last."""

    def __init__(self) -> None:
        self.reply = b""

    def handle(self, connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(self.reply)


@pytest.fixture(scope="module")
def anything() -> Iterator[tuple[Anything, Server]]:
    behaviour = Anything()
    server = Server(behaviour.handle)
    yield behaviour, server
    server.close()


pieces = st.sampled_from(
    [
        *(b"HTTP/1.1 ", b"200", b" OK", b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"5", b"-1"),
        *(b"Transfer-Encoding: chunked\r\n", b"Location: ", b"http://", b"[", b"//", b"302 x\r\n"),
        *(b"Set-Cookie: ", b"a=b; expires=", b"; domain=.", b"; max-age=x", b"101 x\r\n", b"204 "),
        *(b"Content-Encoding: gzip\r\n", b"\0", b"\xff", b" ", b"\n", b"Connection: upgrade\r\n"),
        TOKEN_HEADER.encode() + b": " + DEPLOYMENT.token.encode() + b"\r\n",
    ]
)


@settings(max_examples=80)
@given(
    reply=st.binary(max_size=200)
    | st.lists(pieces | st.binary(max_size=4), max_size=30).map(b"".join)
    | st.lists(pieces, max_size=20).map(lambda p: b"HTTP/1.1 200 OK\r\n" + b"".join(p))
)
@example(reply=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nx")
@example(reply=http("302 Found", Location="\xff"))
@example(reply=http("302 Found", Location="http://a b"))
@example(reply=http("302 Found", Location="http://xn--/"))
@example(reply=http("302 Found", Location="http://" + "a" * 300))
@example(reply=http("302 Found", Location="//[:::]"))
@example(reply=http("302 Found", Location="x:" * 40000))
@example(reply=http(Set_Cookie="a=b; expires=Thu, 99 Foo 99999999 99:99:99 GMT; version=\xff"))
def test_no_bytes_make_a_probe_raise(anything: tuple[Anything, Server], reply: bytes) -> None:
    """Any bytes give a result with a printable reason, and never PASS without cause."""
    behaviour, server = anything
    behaviour.reply = reply
    results = ask_all(page(server.url, body="the one page"), who(server.url))
    for result in results:
        assert result.outcome is Outcome.FAIL
        assert result.reason.replace("…", "").isprintable()
        assert result.excerpt.replace("…", "").isprintable()


def test_the_machine_has_what_these_tests_need(need: Callable[[str], str]) -> None:
    """Sockets and a shell are everywhere; openssl may be missing on a laptop, never in CI."""
    assert shutil.which("sh")
    assert need("openssl")
