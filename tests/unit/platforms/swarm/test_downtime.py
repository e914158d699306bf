"""The downtime meter against real little servers: what it counts, and that it never hangs."""

import socket
import threading
import time
from collections.abc import Callable, Generator

import pytest
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.platforms.swarm import downtime as module
from runner.platforms.swarm.downtime import DowntimeMeter, Reading
from runner.reconcile.probes import Identity
from runner.reconcile.replies import TOKEN_HEADER

AMPLE = 120.0
"""Seconds in which everything happens that must."""
SHORT = 0.3
"""Seconds of patience with an answer that never comes."""

Handler = Callable[[socket.socket], None]
Until = Callable[[Callable[[], bool]], None]


class Server(ThreadedServer):
    """Answers every connection with what ``handle`` does now; it can leave, and come back."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.requests: list[bytes] = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        super().__init__(listener)

    def come_back(self) -> None:
        self._listen(socket.create_server(("127.0.0.1", self.port)))

    @override
    def serve(self, connection: socket.socket) -> None:
        self.requests.append(read_request(connection))
        self.handle(connection)


def replying(reply: bytes) -> Handler:
    return lambda connection: connection.sendall(reply)


def silence(connection: socket.socket) -> None:
    connection.recv(1)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n"[:1])
        time.sleep(SHORT / 10)


TOKEN = f"{TOKEN_HEADER}: of any deployment\r\n".encode()
OURS = replying(b"HTTP/1.1 200 OK\r\n" + TOKEN + b"Content-Length: 0\r\n\r\n")
STRANGER = replying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Miss no answer because this machine is slow."""
    monkeypatch.setattr(module, "PATIENCE", AMPLE)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Miss an answer that does not come."""
    del patient
    monkeypatch.setattr(module, "PATIENCE", SHORT)


@pytest.fixture
def server() -> Generator[Server]:
    made = Server(OURS)
    yield made
    made.close()


@pytest.fixture
def meter(server: Server) -> Generator[DowntimeMeter]:
    """Make a meter that has not begun."""
    made = DowntimeMeter(probe(server))
    yield made
    server.close()  # else one that can't let go would hold up every test
    made.close()


def probe(server: Server, path: str = "/.warm-reconcile/identity") -> Identity:
    return Identity(target_unit="deploy.service", url=f"http://127.0.0.1:{server.port}{path}")


class Sum:
    """Adds up readings."""

    def __init__(self, meter: DowntimeMeter) -> None:
        self._meter = meter
        self.requests = self.unanswered = 0
        self.seconds = 0.0

    def read(self) -> Reading:
        reading = self._meter.read()
        self.requests += reading.requests
        self.unanswered += reading.unanswered
        self.seconds = reading.seconds
        return reading

    def has_requests(self, more: int) -> Callable[[], bool]:
        wanted = self.requests + more
        return lambda: bool(self.read()) and self.requests >= wanted

    def has_unanswered(self, more: int) -> Callable[[], bool]:
        wanted = self.unanswered + more
        return lambda: bool(self.read()) and self.unanswered >= wanted


def test_before_the_start_nothing_is_counted(server: Server, meter: DowntimeMeter) -> None:
    """It is off, and can be read."""
    assert not meter.is_on
    assert meter.read() == Reading(0, 0, 0.0)
    assert not server.requests


def test_a_service_that_always_answers_has_no_downtime(
    server: Server, meter: DowntimeMeter, until: Until
) -> None:
    """It asks one page, over and over, and without a host name: names are redirected."""
    seen = Sum(meter)
    meter.start()
    until(seen.has_requests(5))
    assert (seen.unanswered, seen.seconds) == (0, 0.0)
    assert meter.is_on
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /.warm-reconcile/identity HTTP/1.1"
    assert [line for line in lines if line.lower().startswith(b"host")] == [b"Host: "]


def test_a_reading_resets_the_counts_but_not_the_seconds(
    server: Server, meter: DowntimeMeter, until: Until
) -> None:
    """The counts are since the last reading, the seconds since the start."""
    seen = Sum(meter)
    meter.start()
    until(seen.has_requests(1))
    server.leave()
    until(seen.has_unanswered(2))
    server.come_back()
    until(lambda: (reading := seen.read()).requests > 0 and reading.unanswered == 0)
    dark = seen.seconds
    assert dark > 0
    missed = seen.unanswered
    until(seen.has_requests(3))
    assert (seen.unanswered, seen.seconds) == (missed, dark)


def test_downtime_is_from_the_last_answer_to_the_next(
    server: Server, meter: DowntimeMeter, until: Until
) -> None:
    """At least as long as the server was away, at most from before that to after it."""
    seen = Sum(meter)
    meter.start()
    until(seen.has_requests(2))
    before = time.monotonic()
    server.leave()
    until(seen.has_unanswered(3))
    gone = time.monotonic()
    growing = seen.seconds
    until(seen.has_unanswered(3))
    assert seen.seconds > growing
    back = time.monotonic()
    server.come_back()
    until(lambda: (reading := seen.read()).requests > 0 and reading.unanswered == 0)
    after = time.monotonic()
    assert back - gone <= seen.seconds <= after - before + AMPLE
    server.leave()
    again = seen.seconds
    until(seen.has_unanswered(1))
    assert seen.seconds > again


def test_a_service_that_never_answers_is_down_from_the_start(
    server: Server, meter: DowntimeMeter, until: Until
) -> None:
    """Every request is unanswered; downtime before the start does not count."""
    server.leave()
    seen = Sum(meter)
    began = time.monotonic()
    meter.start()
    until(seen.has_requests(3))
    assert seen.unanswered == seen.requests
    assert 0 < seen.seconds <= time.monotonic() - began


@pytest.mark.parametrize(
    "handle",
    [
        STRANGER,
        silence,
        replying(b""),
        replying(b"SSH-2.0-OpenSSH\r\n"),
        replying(b"HTTP/1.1 2000 OK\r\n\r\n"),
        replying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
        replying(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000),
        replying(b"\xff\x00" * 100),
    ],
    ids=[
        *("no token", "silence", "nothing", "SSH", "no status", "many headers", "long header"),
        "no text",
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_response_without_a_token_is_no_answer(
    server: Server, meter: DowntimeMeter, until: Until, handle: Handler
) -> None:
    """Another program on the port is no answer; and the meter goes on."""
    server.handle = handle
    seen = Sum(meter)
    meter.start()
    until(seen.has_unanswered(2))
    assert seen.unanswered == seen.requests
    server.handle = OURS
    until(lambda: (reading := seen.read()).requests > 0 and reading.unanswered == 0)


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_drips_is_missed(server: Server, meter: DowntimeMeter, until: Until) -> None:
    """Patience is for the whole answer: a client would have gone long ago."""
    server.handle = drip
    seen = Sum(meter)
    meter.start()
    until(seen.has_unanswered(1))


@pytest.mark.usefixtures("impatient")
def test_a_reading_during_an_outage_is_never_a_pass(
    server: Server, meter: DowntimeMeter, until: Until
) -> None:
    """A reading without a finished request during an outage must not look like a pass."""
    server.handle = silence
    meter.start()
    until(lambda: meter.read().unanswered > 0)
    at_once = meter.read()
    assert at_once.seconds > 0
    assert at_once.unanswered > 0


def test_a_path_that_is_no_ascii_does_not_end_it(server: Server, until: Until) -> None:
    """The config allows it, and the probes ask it."""
    meter = DowntimeMeter(probe(server, "/prüfung"))
    meter.start()
    try:
        until(lambda: not meter.is_on or meter.read().requests > 0)
        assert meter.is_on
    finally:
        meter.close()


def test_the_query_of_the_url_is_sent_too(server: Server, until: Until) -> None:
    """What the probes ask is what the meter asks."""
    meter = DowntimeMeter(probe(server, "/identity?who=me"))
    meter.start()
    until(lambda: meter.read().requests > 0)
    meter.close()
    assert server.requests[0].startswith(b"GET /identity?who=me HTTP/1.1\r\n")


def test_a_url_without_a_path_asks_for_the_root(server: Server, until: Until) -> None:
    """HTTP has no empty path."""
    meter = DowntimeMeter(probe(server, ""))
    meter.start()
    until(lambda: meter.read().requests > 0)
    meter.close()
    assert server.requests[0].startswith(b"GET / HTTP/1.1\r\n")


def test_it_begins_once_and_ends_once(meter: DowntimeMeter, until: Until) -> None:
    """Every deployment of a run starts it; closing it twice is allowed."""
    meter.start()
    meter.start()
    assert [thread.name for thread in threading.enumerate()].count("downtime-meter") == 1
    until(lambda: meter.read().requests > 0)
    meter.close()
    meter.close()
    assert not meter.is_on


def test_one_that_never_began_can_be_closed(meter: DowntimeMeter) -> None:
    """A run that deploys nothing ends so."""
    meter.close()
    assert not meter.is_on


def test_nothing_is_sent_after_the_end(server: Server, meter: DowntimeMeter, until: Until) -> None:
    """``close`` returns after the last request; the counts can still be read."""
    seen = Sum(meter)
    meter.start()
    until(seen.has_requests(2))
    meter.close()
    seen.read()
    assert seen.read().requests == 0
    assert len(server.requests) == seen.requests
    assert seen.unanswered == 0
