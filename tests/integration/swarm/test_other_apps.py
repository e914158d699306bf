"""An app without the identity route: each task is probed in its network namespace."""

import re
import socketserver
import threading
from pathlib import Path
from typing import Final

import pytest
from traefik.broken import LONG
from traefik.harness import CALLER
from typing_extensions import override

from runner.platforms.swarm.stack_document import RELEASE_LABEL
from swarm.broken import Write
from swarm.harness import AMPLE, NEW, OLD, Host, Ran
from swarm.healthy import proven, quarantined

pytestmark = [pytest.mark.swarm, pytest.mark.slow]

PAGE: Final = Path(__file__).parent / "page"
FIRST: Final = f"1.0.0+v{OLD}"
NEXT: Final = f"1.1.0+v{NEW}"
PORT: Final = 8080
PROBE: Final = f"""
[[probes]]
kind = "task"
target_unit = "{CALLER}"
port = {PORT}
body_contains = "welcome"
"""
COMMAND: Final = "exec busybox httpd -f -p 8080 -h /page"


def _release(host: Host, label: str, *changes: tuple[str, str], page: str = "welcome") -> None:
    host.release(
        label, recipe=PAGE, edits={"compose.yml": changes}, files={"page.html": f"{page} {label}"}
    )


def _run(host: Host, *, preflight: float = 0.0, window: float = 4.0, until: str = "") -> Ran:
    host.configure(source="directory", window=window, preflight=preflight, probes=PROBE)
    return host.run_until(until) if until else host.run()


def _command(text: str) -> Write:
    return lambda host, label: _release(host, label, (COMMAND, text))


def _page(text: str) -> Write:
    return lambda host, label: _release(host, label, page=text)


@pytest.mark.parametrize("preflight", [0.0, AMPLE])
def test_a_page_is_committed_and_updated(host: Host, preflight: float) -> None:
    """Nothing is published, and nothing of ours is in it."""
    for label in (FIRST, NEXT):
        _release(host, label)
        ran = _run(host, preflight=preflight)
        assert (ran.code, ran.outcome, ran.serving) == (0, "committed", label), ran
    (task,) = host.tasks()
    assert "healthcheck" not in str(task["Spec"]["ContainerSpec"]).lower()
    assert proven(host) == [NEXT, FIRST]
    again = _run(host)
    assert (again.code, again.outcome) == (0, "unchanged"), again
    assert host.tasks()[0]["ID"] == task["ID"]


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        pytest.param(_command("exec sleep 1000"), "connection refused", id="never listens"),
        pytest.param(_command("exit 3"), "ended with status 3", id="exits"),
        pytest.param(_page("out of order"), "body", id="says something else"),
        pytest.param(
            _command("busybox httpd -f -p 8080 -h /page & sleep 3; kill -KILL $$!; sleep 1000"),
            "connection refused",
            id="stops listening and lives on",
        ),
    ],
)
def test_a_broken_release_is_rolled_back_although_the_old_task_answers(
    host: Host, write: Write, reason: str
) -> None:
    """The order is start-first: the old task still serves while the new one is judged."""
    _release(host, FIRST)
    assert _run(host).outcome == "committed"
    write(host, NEXT)
    ran = _run(host, window=LONG, until=reason)
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", FIRST), ran
    assert re.search(reason, ran.reason), ran.reason
    assert host.spec()["Labels"][RELEASE_LABEL] == FIRST
    assert proven(host) == [FIRST]
    assert set(quarantined(host)) == {NEXT}


def test_a_program_on_the_host_cannot_answer_for_a_task(host: Host) -> None:
    """A program on the host listens on the same port, and returns the expected page."""

    class Stranger(socketserver.StreamRequestHandler):
        @override
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwelcome")

    with (
        host.network.socket() as listener,
        socketserver.ThreadingTCPServer(("", 0), Stranger, bind_and_activate=False) as server,
    ):
        server.socket.close()
        listener.bind(("127.0.0.1", PORT))
        server.socket = listener
        server.server_activate()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reply = host.network.get(f"http://127.0.0.1:{PORT}/")
        assert reply is not None
        assert reply.status == 200
        _command("exec sleep 1000")(host, FIRST)
        ran = _run(host, until="connection refused")
        server.shutdown()
    assert (ran.code, ran.outcome, ran.serving) == (20, "stranded", None), ran
    assert "connection refused" in ran.reason
    assert proven(host) == []


def test_a_service_on_the_host_network_is_refused(host: Host) -> None:
    """There, another program could answer for a task."""
    _release(
        host,
        FIRST,
        ("    networks: [proxy]\n", "    networks: [hostnet]\n"),
        ("networks:\n  proxy:\n", "networks:\n  hostnet:\n    name: host\n"),
    )
    ran = _run(host)
    assert (ran.code, ran.outcome) == (20, "stranded"), ran
    assert "uses the host's network" in ran.reason
