"""The listener against real little servers: what it counts, and what it never gets stuck on."""

import socket
import threading
import time
from collections.abc import Callable, Generator

import pytest
from servers import ThreadedServer, read_request
from typing_extensions import override

from runner.platforms.swarm import downtime as listeners
from runner.platforms.swarm.downtime import Listener, Sight
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
    monkeypatch.setattr(listeners, "PATIENCE", AMPLE)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Miss an answer that does not come."""
    del patient
    monkeypatch.setattr(listeners, "PATIENCE", SHORT)


@pytest.fixture
def server() -> Generator[Server]:
    made = Server(OURS)
    yield made
    made.close()


@pytest.fixture
def listener(server: Server) -> Generator[Listener]:
    """Make a listener that has not begun."""
    made = Listener(probe(server))
    yield made
    server.close()  # else one that can't let go would hold up every test
    made.close()


def probe(server: Server, path: str = "/.warm-reconcile/identity") -> Identity:
    return Identity(target_unit="deploy.service", url=f"http://127.0.0.1:{server.port}{path}")


class Sum:
    """Adds up what looks have shown."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.asked = self.missed = 0
        self.dark = 0.0

    def look(self) -> Sight:
        sight = self._listener.look()
        self.asked += sight.asked
        self.missed += sight.missed
        self.dark = sight.dark
        return sight

    def has_asked(self, more: int) -> Callable[[], bool]:
        wanted = self.asked + more
        return lambda: bool(self.look()) and self.asked >= wanted

    def has_missed(self, more: int) -> Callable[[], bool]:
        wanted = self.missed + more
        return lambda: bool(self.look()) and self.missed >= wanted


def test_before_it_begins_it_has_seen_nothing(server: Server, listener: Listener) -> None:
    """It is off, and a look is allowed."""
    assert not listener.is_on
    assert listener.look() == Sight(0, 0, 0.0)
    assert not server.requests


def test_who_always_answers_is_never_dark(server: Server, listener: Listener, until: Until) -> None:
    """It asks one page, over and over, and without a host name: names are redirected."""
    seen = Sum(listener)
    listener.start()
    until(seen.has_asked(5))
    assert (seen.missed, seen.dark) == (0, 0.0)
    assert listener.is_on
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /.warm-reconcile/identity HTTP/1.1"
    assert [line for line in lines if line.lower().startswith(b"host")] == [b"Host: "]


def test_a_look_counts_anew_and_the_sum_stays(
    server: Server, listener: Listener, until: Until
) -> None:
    """The counters are since the last look, the dark time is in all."""
    seen = Sum(listener)
    listener.start()
    until(seen.has_asked(1))
    server.leave()
    until(seen.has_missed(2))
    server.come_back()
    until(lambda: (sight := seen.look()).asked > 0 and sight.missed == 0)
    dark = seen.dark
    assert dark > 0
    missed = seen.missed
    until(seen.has_asked(3))
    assert (seen.missed, seen.dark) == (missed, dark)


def test_the_dark_is_from_the_last_answer_to_the_next(
    server: Server, listener: Listener, until: Until
) -> None:
    """At least as long as nobody was there, at most as long as from before to after."""
    seen = Sum(listener)
    listener.start()
    until(seen.has_asked(2))
    before = time.monotonic()
    server.leave()
    until(seen.has_missed(3))
    gone = time.monotonic()
    growing = seen.dark
    until(seen.has_missed(3))
    assert seen.dark > growing
    back = time.monotonic()
    server.come_back()
    until(lambda: (sight := seen.look()).asked > 0 and sight.missed == 0)
    after = time.monotonic()
    assert back - gone <= seen.dark <= after - before + AMPLE
    server.leave()
    again = seen.dark
    until(seen.has_missed(1))
    assert seen.dark > again


def test_who_never_answers_is_dark_from_the_start(
    server: Server, listener: Listener, until: Until
) -> None:
    """Every probe is missed; what was before the start is nobody's outage."""
    server.leave()
    seen = Sum(listener)
    began = time.monotonic()
    listener.start()
    until(seen.has_asked(3))
    assert seen.missed == seen.asked
    assert 0 < seen.dark <= time.monotonic() - began


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
def test_whatever_is_not_ours_is_missed(
    server: Server, listener: Listener, until: Until, handle: Handler
) -> None:
    """A stranger on the port serves nobody, however friendly; and the listener goes on."""
    server.handle = handle
    seen = Sum(listener)
    listener.start()
    until(seen.has_missed(2))
    assert seen.missed == seen.asked
    server.handle = OURS
    until(lambda: (sight := seen.look()).asked > 0 and sight.missed == 0)


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_drips_is_missed(server: Server, listener: Listener, until: Until) -> None:
    """Patience is for the whole answer: a client would have gone long ago."""
    server.handle = drip
    seen = Sum(listener)
    listener.start()
    until(seen.has_missed(1))


@pytest.mark.usefixtures("impatient")
def test_no_look_in_the_dark_shows_a_light(
    server: Server, listener: Listener, until: Until
) -> None:
    """While nobody answers, a look that finds no probe finished must not look like a pass."""
    server.handle = silence
    listener.start()
    until(lambda: listener.look().missed > 0)
    at_once = listener.look()
    assert at_once.dark > 0
    assert at_once.missed > 0


def test_a_path_that_is_no_ascii_does_not_end_it(server: Server, until: Until) -> None:
    """The config allows it, and the probes ask it."""
    listener = Listener(probe(server, "/prüfung"))
    listener.start()
    try:
        until(lambda: not listener.is_on or listener.look().asked > 0)
        assert listener.is_on
    finally:
        listener.close()


def test_a_query_is_asked_too(server: Server, until: Until) -> None:
    """What the probes ask is what the listener asks."""
    listener = Listener(probe(server, "/identity?who=me"))
    listener.start()
    until(lambda: listener.look().asked > 0)
    listener.close()
    assert server.requests[0].startswith(b"GET /identity?who=me HTTP/1.1\r\n")


def test_a_url_without_a_path_asks_for_the_root(server: Server, until: Until) -> None:
    """HTTP has no empty path."""
    listener = Listener(probe(server, ""))
    listener.start()
    until(lambda: listener.look().asked > 0)
    listener.close()
    assert server.requests[0].startswith(b"GET / HTTP/1.1\r\n")


def test_it_begins_once_and_ends_once(listener: Listener, until: Until) -> None:
    """Every deployment of a run begins it, and whoever closes it may do so again."""
    listener.start()
    listener.start()
    assert [thread.name for thread in threading.enumerate()].count("listener") == 1
    until(lambda: listener.look().asked > 0)
    listener.close()
    listener.close()
    assert not listener.is_on


def test_one_that_never_began_can_be_closed(listener: Listener) -> None:
    """A run that deploys nothing ends so."""
    listener.close()
    assert not listener.is_on


def test_nothing_is_asked_after_the_end(server: Server, listener: Listener, until: Until) -> None:
    """``close`` returns when the last probe is over, and what was seen can still be told."""
    seen = Sum(listener)
    listener.start()
    until(seen.has_asked(2))
    listener.close()
    seen.look()
    assert seen.look().asked == 0
    assert len(server.requests) == seen.asked
    assert seen.missed == 0
