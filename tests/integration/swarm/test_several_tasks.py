"""Several tasks on one node: each is probed by itself, and a broken one can't hide.

The routing mesh needs IPVS, which not every kernel has. So the service publishes nothing, and a
relay stands in for the mesh: it listens on the ports of the host, and leads to the address of one
task on docker_gwbridge. It keeps to the first slot, as a load balancer may that keeps a client to
one backend: the probes about the public listener never see another one.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest

from runner.reconcile.events import Commit, Judged
from runner.reconcile.model import Outcome, Round
from swarm.broken import TEST, variant
from swarm.harness import NEW, WEB, Host, Ran
from swarm.healthy import (
    LAST_GOOD,
    assert_never_committed,
    history,
    prepare,
    proven,
    token_of,
)

pytestmark = [pytest.mark.swarm, pytest.mark.slow]

NEWER: Final = f"1.1.0+v{NEW}"
WANTED: Final = 3
FIRST: Final = "app.1."
PORTS: Final = (80, 443)
PAUSE: Final = 0.2
PATIENCE: Final = 30.0
PUBLISHED: Final = """\
    ports: # Host mode: Traefik sees who really asks, and the routing mesh isn't needed.
      - {target: 80, published: "${HTTP_PORT:-80}", protocol: tcp, mode: host}
      - {target: 443, published: "${HTTPS_PORT:-443}", protocol: tcp, mode: host}
"""
COMPOSE: Final = (
    (PUBLISHED, ""),
    ("    environment:\n", '    environment:\n      SLOT: "{{.Task.Slot}}"\n'),
    ("      restart_policy:\n", f"      replicas: {WANTED}\n      restart_policy:\n"),
    ("        order: stop-first\n", f"        order: stop-first\n        parallelism: {WANTED}\n"),
)
ONE_LIES: Final = """\
if [ "$SLOT" = 2 ]; then export WARM_RECONCILE_TOKEN=stale; fi
exec traefik
"""
ONE_IS_UNWELL: Final = (TEST, 'test: [CMD, sh, -c, "[ $$SLOT != 2 ] && traefik healthcheck"]')


class Relay:
    """Leads connections to one task of a service, in the place of the routing mesh."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._address = ""
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._listeners = [self._listen(port) for port in PORTS]

    def close(self) -> None:
        """Leave the ports."""
        self._ended.set()
        self._watcher.join()
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE):
            with contextlib.suppress(AssertionError, KeyError):  # it ended meanwhile
                self._address = self._choose()

    def _choose(self) -> str:
        """Name the address of the task in the first slot, if it is there; else of another one."""
        shown = '{{.Label "com.docker.swarm.task.name"}} {{.ID}}'
        chosen = f"--filter=label=com.docker.swarm.service.name={self._host.service}"
        lines = self._host.engine.listed("ps", "--no-trunc", f"--format={shown}", chosen)
        if not lines:
            return ""
        first = [line for line in lines if FIRST in line]
        container = (first or lines)[-1].rpartition(" ")[2]
        (bridge,) = self._host.engine.inspect("network", "docker_gwbridge")
        end: dict[str, Any] = bridge["Containers"][container]
        return str(end["IPv4Address"]).partition("/")[0]

    def _listen(self, port: int) -> socket.socket:
        listener = self._host.network.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        threading.Thread(target=self._serve, args=(listener, port), daemon=True).start()
        return listener

    def _serve(self, listener: socket.socket, port: int) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._lead, args=(client, port), daemon=True).start()

    def _lead(self, client: socket.socket, port: int) -> None:
        address = self._address
        with client, self._host.network.socket() as server, contextlib.suppress(OSError):
            if not address:
                return
            for end in (client, server):
                end.settimeout(PATIENCE)
            server.connect((address, port))
            back = threading.Thread(target=_pour, args=(server, client), daemon=True)
            back.start()
            _pour(client, server)
            back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(host: Host) -> Iterator[Relay]:
    relay = Relay(host)
    yield relay
    relay.close()


def release(host: Host, label: str, *changes: tuple[str, str], image: str = "") -> None:
    host.release(label, image=image, edits={"compose.yml": (*COMPOSE, *changes)})


def evidence(host: Host, label: str) -> Round:
    """Read the last round of the verdict on a release."""
    found: Round = ()
    with history(host) as past:
        for attempt in reversed(past.attempts(100)):
            for _, entry in past.story(attempt.number):
                match entry:
                    case Judged(verdict) | Commit(verdict):
                        if verdict.deployment.release.label == label:
                            found = verdict.evidence
                    case _:
                        pass
    return found


def each_task(host: Host, label: str) -> tuple[Outcome, str]:
    """Read the result of probing each task."""
    (found,) = (each for each in evidence(host, label) if each.probe == "each task")
    return found.outcome, found.reason


def make_last_good(host: Host) -> None:
    release(host, LAST_GOOD)
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", LAST_GOOD), ran
    assert_all_serve(host)


def assert_all_serve(host: Host) -> None:
    """Check that each task is of the last deployment, and was probed by itself."""
    tasks = host.tasks()
    assert len(tasks) == len(host.containers()) == WANTED
    who = host.ask(WEB)
    assert who is not None
    assert who.token == token_of(host)
    assert who.task in {task["ID"] for task in tasks}


@pytest.mark.usefixtures("relay")
def test_every_task_is_probed_by_itself(host: Host) -> None:
    """All probes that can be sent inside a task, for each of them."""
    prepare(host)
    make_last_good(host)
    release(host, NEWER)
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", NEWER), ran
    assert_all_serve(host)
    assert each_task(host, NEWER) == (Outcome.PASS, "3 of 3 tasks passed")


@pytest.mark.usefixtures("relay")
def test_one_broken_task_fails_a_release_that_looks_well_from_outside(
    host: Host,
) -> None:
    """It runs and is healthy; only a probe inside it gets the wrong identity."""
    prepare(host)
    make_last_good(host)
    release(host, NEWER, image=variant(host, entrypoint=ONE_LIES))
    ran = host.run_until("^each task: 2 of 3 tasks passed; web@")
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", LAST_GOOD), ran
    answer, reason = each_task(host, NEWER)
    assert answer is Outcome.FAIL
    found = re.fullmatch(r"2 of 3 tasks passed; web@(\w+): another deployment answers: .*", reason)
    assert found is not None, reason
    (task,) = host.engine.inspect("task", found[1])
    assert task["Slot"] == 2
    assert ran.reason.startswith(f"each task: {reason}")
    others = {each.outcome for each in evidence(host, NEWER) if each.probe != "each task"}
    assert others == {Outcome.PASS}
    assert_never_committed(host, NEWER)
    assert_all_serve(host)


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("require", ["all", "quorum"])
def test_a_quorum_does_not_excuse_a_task_with_a_failed_probe(host: Host, require: str) -> None:
    """Cold: two of three are well, and the third serves clients like them."""
    prepare(host, platform=f'require = "{require}"')
    release(host, NEWER, image=variant(host, entrypoint=ONE_LIES))
    assert_stranded(host, "each task: 2 of 3 tasks passed; web@")


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("require", ["all", "quorum"])
def test_a_quorum_excuses_a_task_that_is_not_there_yet(host: Host, require: str) -> None:
    """Its health check never passes."""
    prepare(host, platform=f'require = "{require}"')
    release(host, NEWER, ONE_IS_UNWELL)
    assert_that_a_quorum_commits(host, require, "tasks: 2 of 3 tasks running; task ")


def assert_that_a_quorum_commits(host: Host, require: str, reason: str) -> None:
    """Run once; with ``require = "all"`` this is the reason of the failure."""
    ran = host.run_until(re.escape(reason)) if require == "all" else host.run()
    if require == "quorum":
        assert (ran.code, ran.outcome, ran.serving) == (0, "committed", NEWER), ran
    else:
        assert_not_proven(host, ran, reason)


def assert_stranded(host: Host, reason: str) -> None:
    """Run once; this is the reason why nothing is proven."""
    assert_not_proven(host, host.run_until(re.escape(reason)), reason)


def assert_not_proven(host: Host, ran: Ran, reason: str) -> None:
    assert (ran.code, ran.outcome, ran.serving) == (20, "stranded", None), ran
    assert ran.reason.startswith(reason), ran
    assert proven(host) == []
