"""Another program answers on the candidate's port: an old Traefik, or any server.

Nothing that answers there speaks for the candidate; so nothing is committed, dead or alive as the
candidate itself may be.
"""

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from runner.platforms.process.instances import TOKEN_VARIABLE
from runner.platforms.process.platform import GATE
from traefik.broken import LONG, SHORT, script
from traefik.harness import PATIENCE, App, wait_for_ping

pytestmark = pytest.mark.traefik

ByHand = Callable[..., subprocess.Popen[bytes]]


def start_old(app: App, by_hand: ByHand, *, web: str = "", gate: bool = False) -> None:
    """Start an old Traefik on the app's port, optionally with the gate of an earlier deployment."""
    home = app.release("", into=app.home / "old", static=app.static(web=web))
    if gate:
        (home / "dynamic" / "warm-reconcile.yml").write_text(GATE)
    by_hand(home, {TOKEN_VARIABLE: "0123-1"})
    wait_for_ping(app.port)


def assert_stranded(app: App, reason: str) -> None:
    """Run; check that the candidate was refused for this reason, and nothing is proven."""
    ran = app.run_until(reason)
    assert (ran.code, ran.outcome, ran.serving) == (20, "stranded", None), ran
    assert re.search(reason, ran.reason), ran.reason
    app.assert_never_committed("1.0.0")
    assert app.proven() == []


@pytest.mark.parametrize("web", ["", "reusePort: true"], ids=["alone", "sharing its port"])
def test_an_old_instance_answers_for_a_dead_candidate(app: App, by_hand: ByHand, web: str) -> None:
    """It holds the port, the candidate can't listen and exits: every answer is the old one's."""
    start_old(app, by_hand, web=web)
    app.release("1.0.0")
    assert_stranded(app, r"^process: the process exited with status 1: .*address already in use")


def test_an_old_instance_with_a_gate_answers_for_a_dead_candidate(
    app: App, by_hand: ByHand
) -> None:
    """The same with an identity of its own: that of an older deployment."""
    start_old(app, by_hand, gate=True)
    app.release("1.0.0")
    assert_stranded(app, r"^process: the process exited with status 1: .*address already in use")


def test_an_old_instance_answers_with_an_older_token(app: App, by_hand: ByHand) -> None:
    """The candidate lives, elsewhere; what answers is the same release of an older deployment."""
    start_old(app, by_hand, gate=True)
    app.release("1.0.0", static=app.static(port=app.other_port))
    assert_stranded(app, r"^identity: another deployment answers: its token is a different one")


def test_an_old_instance_shares_the_port_of_a_live_candidate(app: App, by_hand: ByHand) -> None:
    """The kernel gives connections to both: some rounds pass, but no streak may hold."""
    app.configure(window=LONG)
    start_old(app, by_hand, web="reusePort: true", gate=True)
    app.release("1.0.0", static=app.static(web="reusePort: true"))
    assert_stranded(app, r"^identity: another deployment answers|^too late: ")


def test_an_old_instance_goes_on_answering_while_the_candidate_comes_up_and_dies(
    app: App, by_hand: ByHand
) -> None:
    """The candidate shares the port for a while, then dies: the old one's answers don't save it."""
    app.configure(window=LONG)
    start_old(app, by_hand, web="reusePort: true", gate=True)
    lives_shortly = "child = start()\ntime.sleep(0.5)\nchild.kill()\nchild.wait()\nsys.exit(3)\n"
    app.release(
        "1.0.0",
        binary=script(app, "short-lived", lives_shortly),
        static=app.static(web="reusePort: true"),
    )
    assert_stranded(app, r"^process: the process exited with status 3")


# Strangers ---------------------------------------------------------------------------------------


class ForeignServer:
    """Answers everything on a port with the same bytes, from threads of this process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, answer: bytes) -> None:
        """Take the port; answer nothing at all if there is no answer."""
        server = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._spawn(self._listen, server, answer)

    def stop(self) -> None:
        """Give the port back, and end all threads."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)

    def _spawn(
        self, work: Callable[[socket.socket, bytes], None], *on: socket.socket | bytes
    ) -> None:
        thread = threading.Thread(target=work, args=on)
        thread.start()
        self._threads.append(thread)

    def _listen(self, server: socket.socket, answer: bytes) -> None:
        with server:
            server.settimeout(0.05)
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    self._spawn(self._attend, server.accept()[0], answer)

    def _attend(self, connection: socket.socket, answer: bytes) -> None:
        with connection, contextlib.suppress(OSError):  # the client may have gone
            connection.settimeout(PATIENCE)
            if connection.recv(4096):
                connection.sendall(answer)
                if not answer:
                    self._over.wait(PATIENCE)


@pytest.fixture
def stranger(app: App) -> Iterator[ForeignServer]:
    """A program that may take the app's port."""
    stranger = ForeignServer(app.port)
    yield stranger
    stranger.stop()


FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SILENT = b""


def test_another_program_answers_for_a_dead_candidate(app: App, stranger: ForeignServer) -> None:
    """It holds the port and answers 200 OK to everything; the candidate can't listen."""
    stranger.start(FINE)
    app.release("1.0.0")
    assert_stranded(app, r"^process: the process exited with status 1: .*address already in use")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(
            FINE,
            r"^identity: no X-Warm-Reconcile-Token header: this is not the Traefik that was",
            id="200 OK",
        ),
        pytest.param(BUSY, r"^ping: status 503, expected 200", id="503"),
        pytest.param(SILENT, r"^ping: no whole answer within", id="silence"),
    ],
)
def test_another_program_answers_for_a_candidate_that_listens_elsewhere(
    app: App, stranger: ForeignServer, answer: bytes, reason: str
) -> None:
    """The candidate runs and is well, but not at the probed address."""
    app.configure(timeout=PATIENCE if answer else SHORT)
    stranger.start(answer)
    app.release("1.0.0", static=app.static(port=app.other_port))
    assert_stranded(app, reason)


def test_last_good_cannot_come_back_while_another_program_has_its_port(
    app: App, stranger: ForeignServer
) -> None:
    """No release is to blame: stranded, no quarantine, and well again without that program."""
    app.make_last_good("1.0.0")
    app.kill_instances()
    stranger.start(FINE)
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (20, "stranded", None), ran
    assert re.search(r"address already in use", ran.reason), ran.reason
    assert app.proven() == ["1.0.0"]
    assert app.quarantined() == {}
    stranger.stop()
    again = app.run()
    assert (again.code, again.outcome, again.serving) == (0, "restored", "1.0.0"), again
    app.assert_serving("1.0.0")
