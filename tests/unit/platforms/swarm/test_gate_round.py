"""Gate rounds on Swarm, against a fake Docker API and tasks that are processes here."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from playback import Playback, playing
from safe_probes import proven

from runner.platforms.swarm.docker_cli import Docker
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.evidence import LEAVING
from runner.platforms.swarm.gate_round import (
    LONGEST_NAME,
    Evidence,
    StackGate,
    host_probes,
    task_probes,
)
from runner.platforms.swarm.objects import Task, read_service, read_task
from runner.platforms.swarm.stack import Stacks
from runner.reconcile.model import Deployment, Outcome, ProbeResult, Release, Round
from runner.reconcile.probes import (
    Http,
    Identity,
    Probe,
    TaskHttp,
    Tcp,
    TraefikPing,
    UnitActive,
)
from runner.reconcile.replies import Expected
from runner.storage.records import Record, Written

Json = dict[str, Any]

AMPLE = 120.0
"""Seconds that no answer needs."""
UNIT = "deploy-proxy.service"
DEPLOYMENT = Deployment(Release("1.0.0+v3.5.1", "3.5.1", "d" * 64), "token-of-this-deployment")
NODE = "n1"
AT = 1795453160.0
MANAGER = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": NODE}
HERE = {"ID": NODE, "Spec": {"Availability": "active"}, "Status": {"State": "ready"}}
GONE = 2**22 + 1
"""No process has such an id."""


def template(token: str = DEPLOYMENT.token) -> Json:
    return {"ContainerSpec": {"Image": "x", "Env": [f"WARM_RECONCILE_TOKEN={token}"]}}


def service(token: str = DEPLOYMENT.token) -> Json:
    spec = {
        "Name": "s_app",
        "TaskTemplate": {**template(token), "Runtime": "container"},
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080}]},
    }
    return {"ID": "web", "Version": {"Index": 1}, "Spec": spec}


def task(name: str, state: str = "running", *, of: str = DEPLOYMENT.token, pid: int = 0) -> Json:
    runs = state == "running"
    status = {
        "Timestamp": "2026-11-23T16:59:22.374233867Z",  # two seconds after AT
        "State": state,
        "Err": "" if runs else "task: non-zero exit (3)",
        "ContainerStatus": {"ContainerID": f"c-{name}", "PID": pid, "ExitCode": 3},
    }
    place = {"ID": name, "ServiceID": "web", "NodeID": NODE, "Status": status}
    return {**place, "Spec": template(of), "DesiredState": "running" if runs else "shutdown"}


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Playback]:
    says = {
        "/info": {"Swarm": MANAGER},
        "/nodes": [HERE],
        "/services": [service()],
        "/tasks": [task("t1")],
    }
    with playing(tmp_path / "docker.sock", says) as server:
        yield server


@pytest.fixture
def gate(engine: Playback, tmp_path: Path) -> StackGate:
    assert engine.says
    real = Engine(str(tmp_path / "docker.sock"), AMPLE)
    return StackGate(Stacks(real, Docker(real.url), tmp_path / "records"), "s", UNIT)


def record(deployment: Deployment = DEPLOYMENT) -> Record:
    spec = read_service(service(deployment.token)).spec
    return Record(deployment, Written(AT, "s_app", {"s_app": spec}))


def ask(gate: StackGate, *, is_ours: bool = True) -> dict[str, tuple[Outcome, bool]]:
    """Read the evidence; return the outcome of each result, and whether it is terminal."""
    results = gate.read_evidence(record(), is_ours=is_ours).results
    assert {result.target_unit for result in results} == {UNIT}
    return {result.probe: (result.outcome, result.terminal) for result in results}


PASS, LOST = (Outcome.PASS, False), {"docker": (Outcome.INCONCLUSIVE, False)}
ENDED = (Outcome.FAIL, True)


# The engine's evidence ---------------------------------------------------------------------------


def test_running_tasks_of_the_deployment_pass_and_are_named(gate: StackGate) -> None:
    """The evidence has the running tasks and their ports."""
    evidence = gate.read_evidence(record(), is_ours=True)
    assert [result.probe for result in evidence.results] == ["stack", "tasks"]
    assert {result.outcome for result in evidence.results} == {Outcome.PASS}
    assert [result.excerpt for result in evidence.results] == ["", ""]
    assert [result.reason for result in evidence.results] == [
        "the services are as they were deployed",
        "1 of 1 running: t1",
    ]
    assert [task.id for task in evidence.running] == ["t1"]
    assert evidence.service is not None
    assert evidence.service.published == {8080: 80}
    assert not evidence.is_final


def test_docker_unreachable_is_no_evidence(engine: Playback, gate: StackGate) -> None:
    """Neither for nor against; and no task needs to be probed."""
    with engine.lost():
        evidence = gate.read_evidence(record(), is_ours=True)
    (result,) = evidence.results
    assert (result.probe, result.outcome) == ("docker", Outcome.INCONCLUSIVE)
    assert "doesn't answer" in result.reason
    assert (evidence.running, evidence.service, evidence.is_final) == ((), None, True)


def test_the_last_log_line_explains_an_ended_task(engine: Playback, gate: StackGate) -> None:
    """The last line is part of the reason; the log of a container elsewhere can't be read."""
    engine.says["/tasks"] = [task("t1", "failed")]
    log = b"level=info\nfield not found, \x1b[31mnode: foo\n\n"
    without = gate.read_evidence(record(), is_ours=True).results[1]
    assert (without.reason, without.excerpt) == ("task t1 ended with status 3", "")
    engine.says["/containers/c-t1/logs"] = log
    result = gate.read_evidence(record(), is_ours=True).results[1]
    assert result.terminal
    assert result.reason == ("task t1 ended with status 3: field not found, node: foo")
    assert result.excerpt == "level=info\\nfield not found, node: foo"


def inspect(status: str = "", *said: str, out_of_memory: bool = False) -> Json:
    """Make a container as the Docker API has it: its health checks, and how it ended."""
    state: Json = {"OOMKilled": out_of_memory}
    if status:
        state["Health"] = {"Status": status, "Log": [{"Output": text} for text in said]}
    return {"State": state}


@pytest.mark.parametrize(
    ("container", "log", "reason", "excerpt"),
    [
        (inspect(), b"last\n", ": last", "last"),
        (inspect("healthy", "fine"), b"last\n", ": last", "last"),
        (
            inspect("unhealthy", "old", "sick\n"),
            b"last\n",
            ": unhealthy: sick",
            "last\\nunhealthy: sick",
        ),
        (inspect(out_of_memory=True), b"last\n", ": out of memory", "last\\nout of memory"),
        (inspect("unhealthy", "x", out_of_memory=True), b"", ": out of memory", "out of memory"),
        (inspect("unhealthy"), b"", "", ""),
    ],
    ids=["words", "healthy", "unhealthy", "memory", "memory first", "nothing"],
)
def test_an_ended_task_is_explained_by_its_log_and_health_check(
    *, engine: Playback, gate: StackGate, container: Json, log: bytes, reason: str, excerpt: str
) -> None:
    """Its log, and the cause that it could not log itself."""
    engine.says["/tasks"] = [task("t1", "failed")]
    engine.says["/containers/c-t1/json"] = container
    engine.says["/containers/c-t1/logs"] = log
    result = gate.read_evidence(record(), is_ours=True).results[1]
    assert result.reason == f"task t1 ended with status 3{reason}"
    assert result.excerpt == excerpt


def test_a_task_that_starts_is_explained_by_its_health_check(
    engine: Playback, gate: StackGate
) -> None:
    """By any output of it; its log is not read, as it has not ended."""
    starting = task("t1", "starting")
    starting["Status"]["Err"] = ""
    engine.says["/tasks"] = [{**starting, "DesiredState": "running"}]
    engine.says["/containers/c-t1/json"] = inspect("starting", "no answer yet\n")
    engine.says["/containers/c-t1/logs"] = b"last\n"
    evidence = gate.read_evidence(record(), is_ours=True)
    result = evidence.results[1]
    assert result.reason == (
        "0 of 1 tasks running; task t1 is starting; its health check printed no answer yet"
    )
    assert (result.excerpt, result.terminal, evidence.is_final) == ("no answer yet", False, False)


@pytest.mark.parametrize(
    ("outcome", "terminal", "is_final"),
    [
        (Outcome.PASS, False, False),
        (Outcome.FAIL, False, False),
        (Outcome.FAIL, True, True),
        (Outcome.INCONCLUSIVE, False, True),
        (Outcome.INCONCLUSIVE, True, True),
    ],
)
def test_when_no_answer_of_a_task_can_change_a_round(
    outcome: Outcome, *, terminal: bool, is_final: bool
) -> None:
    """One such result among others is enough."""
    fine = ProbeResult("stack", Outcome.PASS, "so", UNIT)
    found = ProbeResult("tasks", outcome, "so", UNIT, terminal=terminal)
    assert Evidence((fine, found), (), None).is_final is is_final
    assert not Evidence((), (), None).is_final


# Excuses -----------------------------------------------------------------------------------------


def test_what_ends_in_a_run_that_deployed_it_counts(engine: Playback, gate: StackGate) -> None:
    """Also if it had ended before the first round, and has been replaced."""
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    for _ in range(3):
        assert ask(gate) == {"stack": PASS, "tasks": ENDED}


def test_what_ended_before_another_run_looked_is_excused(engine: Playback, gate: StackGate) -> None:
    """The host was restarted; but later ends count."""
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate, is_ours=False) == {"stack": PASS, "tasks": PASS}
    engine.says["/tasks"] = [task("t1", "failed"), task("t2", "failed"), task("t3")]
    assert ask(gate, is_ours=False) == {"stack": PASS, "tasks": ENDED}


def test_a_loss_of_docker_excuses_the_tasks_seen_before(engine: Playback, gate: StackGate) -> None:
    """Tasks from before the loss are excused; later ones are not."""
    assert ask(gate)["tasks"] == PASS
    with engine.lost():
        assert ask(gate) == LOST
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate)["tasks"] == PASS
    engine.says["/tasks"] = [task("t1", "failed"), task("t2", "failed"), task("t3")]
    assert ask(gate)["tasks"] == ENDED


def test_a_loss_of_docker_before_the_first_round_excuses_ended_tasks(
    engine: Playback, gate: StackGate
) -> None:
    """For example a restart right after the write."""
    with engine.lost():
        assert ask(gate) == LOST
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate)["tasks"] == PASS


def test_an_unreadable_log_excuses_no_task(engine: Playback, gate: StackGate) -> None:
    """A log that breaks off is no loss of Docker: its task has ended all the same."""
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    engine.says["/containers/c-t1/logs"] = None
    ask(gate)
    assert ask(gate).get("tasks") != PASS


def test_each_deployment_has_its_own_excuses(engine: Playback, gate: StackGate) -> None:
    """First one of this run, then an older one that is live: its past is not held against it."""
    candidate = Deployment(DEPLOYMENT.release, "of-the-candidate")
    engine.says["/services"] = [service(candidate.token)]
    engine.says["/tasks"] = [task("c1", of=candidate.token)]
    gate.read_evidence(record(candidate), is_ours=True)
    engine.says["/services"] = [service()]
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate, is_ours=False)["tasks"] == PASS


# Leaked ports ------------------------------------------------------------------------------------

HELD = [{"State": "running", "Ports": [{"PublicPort": 443, "PrivatePort": 443, "Type": "tcp"}]}]
DENIED = "starting container failed: ... Bind for 0.0.0.0:443 failed: port is already allocated"


def denied(name: str, *, node: str = NODE) -> Json:
    """Make a task that dockerd denied its port."""
    made = task(name, "failed")
    return {**made, "NodeID": node, "Status": {**made["Status"], "Err": DENIED}}


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize(
    "containers",
    [[], [{"Ports": None}], [{"Ports": [{"PrivatePort": 443, "Type": "tcp"}]}], [{}]],
    ids=["none", "without ports", "not published", "nothing said"],
)
def test_a_leaked_port_is_no_evidence(
    engine: Playback, gate: StackGate, containers: list[Json], *, is_ours: bool
) -> None:
    """Not against the release; once a container has the port, no denial counts."""
    engine.says["/tasks"] = [denied("t1")]
    engine.says["/containers/json"] = containers
    assert ask(gate, is_ours=is_ours)["tasks"] == (Outcome.INCONCLUSIVE, False)
    engine.says["/tasks"] = [denied("t1"), task("t2")]
    engine.says["/containers/json"] = HELD
    assert ask(gate, is_ours=is_ours)["tasks"] == PASS


def test_a_port_leaked_for_long_is_terminal(
    engine: Playback, gate: StackGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No container takes so long to end."""
    engine.says["/tasks"] = [denied("t1")]
    engine.says["/containers/json"] = []
    now = time.time()
    for later, is_final in ((0.0, False), (LEAVING - 1, False), (LEAVING, True)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert ask(gate)["tasks"] == (Outcome.INCONCLUSIVE, is_final)


def test_a_port_that_a_container_has_was_denied_with_reason(
    engine: Playback, gate: StackGate
) -> None:
    """For example a container that was started by hand."""
    engine.says["/tasks"] = [denied("t1")]
    engine.says["/containers/json"] = HELD
    assert ask(gate)["tasks"] == ENDED


def test_ports_of_another_node_are_not_known_here(engine: Playback, gate: StackGate) -> None:
    """A dockerd lists its own containers only."""
    engine.says["/tasks"] = [denied("t1", node="n2")]
    engine.says["/containers/json"] = []
    assert ask(gate)["tasks"] == ENDED


def test_docker_lost_while_ports_are_read_is_a_loss(engine: Playback, gate: StackGate) -> None:
    """A partial response is an error."""
    engine.says["/tasks"] = [denied("t1")]
    engine.says["/containers/json"] = None
    assert ask(gate) == LOST


# Questions to each task --------------------------------------------------------------------------

PING = TraefikPing(target_unit=UNIT, url="http://127.0.0.1:8080/ping")
WHO = Identity(target_unit=UNIT, url="http://127.0.0.1:8080/who?a=b")
TASK = TaskHttp(target_unit=UNIT, port=8080, path="/ping", body_contains="O")


@pytest.mark.parametrize(
    ("probe", "ports", "url", "address"),
    [
        (PING, {8080: 80}, "http://127.0.0.1:80/ping", None),
        (WHO, {8080: 80, 80: 81}, "http://127.0.0.1:80/who?a=b", None),
        (evolve(PING, url="http://10.0.0.1/ping"), {80: 8000}, "http://127.0.0.1:8000/ping", None),
        (evolve(WHO, url="https://[::1]/x"), {443: 8443}, "https://127.0.0.1:8443/x", None),
        (evolve(PING, url="http://[::1]:8080/"), {8080: 80}, "http://127.0.0.1:80/", None),
        (PING, {}, "http://127.0.0.1:8080/ping", None),
        (
            evolve(WHO, url="https://gate.invalid:1/x", address="[::1]:8443"),
            {8443: 443, 1: 2},
            "https://gate.invalid:1/x",
            "127.0.0.1:443",
        ),
    ],
)
def test_a_probe_inside_a_task_uses_the_port_of_the_task(
    probe: Probe, ports: dict[int, int], url: str, address: str | None
) -> None:
    """Published ports are mapped; others are used unchanged. A name stays for TLS."""
    (safe,) = task_probes((proven(probe),), ports)
    asked = safe.probe
    assert isinstance(asked, TraefikPing | Identity)
    assert (asked.url, getattr(asked, "address", None)) == (url, address)
    assert (asked.name, asked.target_unit) == (probe.name, UNIT)


def test_probes_inside_tasks_and_probes_from_the_host() -> None:
    """In the order of the config."""
    page = Http(name="page", target_unit=UNIT, url="http://127.0.0.1/")
    port = Tcp(name="port", target_unit=UNIT, address="127.0.0.1:80")
    unit = UnitActive(name="unit", target_unit=UNIT)
    every: tuple[Probe, ...] = (WHO, page, TASK, port, unit, PING)
    safe = [proven(probe) for probe in every]
    inside, outside = task_probes(safe, {8080: 1}), host_probes(safe)
    assert [each.probe.kind for each in inside] == ["identity", "task", "traefik-ping"]
    assert TASK in [each.probe for each in inside]
    assert [each.probe for each in outside] == [WHO, page, port, unit, PING]


SERVE = """
import http.server, json, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

class Traefik(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"OK" if self.path == "/ping" else json.dumps({"Version": "3.5.1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Warm-Reconcile-Token", sys.argv[1])
        self.send_header("X-Warm-Reconcile-Task", sys.argv[2])
        self.end_headers()
        self.wfile.write(body)

with http.server.HTTPServer(("127.0.0.1", 8080), Traefik) as server:
    print("up", flush=True)
    server.serve_forever()
"""
Start = Callable[..., Task]


def quiet(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.fixture
def start(unshare: str) -> Generator[Start]:
    """Start tasks, each with a network of its own: ``start("t1", says="t1")``."""
    with contextlib.ExitStack() as stack:

        def make(name: str, *, says: str, token: str = DEPLOYMENT.token) -> Task:
            command = [unshare, "--net", sys.executable, "-c", SERVE, token, says]
            process = stack.enter_context(quiet(command))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            return read_task(task(name, pid=process.pid))

        yield make


def probe_tasks(gate: StackGate, *tasks: Task) -> list[Round]:
    gate.read_evidence(record(), is_ours=True)  # it reads the id of this node
    expected = Expected(DEPLOYMENT, frozenset(task.id for task in tasks))
    return gate.probe_tasks(expected, tasks, (proven(PING), proven(WHO)), AMPLE)


def test_each_task_is_asked_by_itself(gate: StackGate, start: Start) -> None:
    """All have the same port, and each has to return its own task id."""
    tasks = start("t1", says="t1"), start("t2", says="t1"), start("t3", says="t3", token="old")  # noqa: S106
    results = {result.probe: result for each in probe_tasks(gate, *tasks) for result in each}
    passed = {probe for probe, result in results.items() if result.outcome is Outcome.PASS}
    assert passed == {"ping@t1", "identity@t1", "ping@t2", "ping@t3"}
    assert "task t1 answers" in results["identity@t2"].reason
    assert "another deployment answers" in results["identity@t3"].reason


@pytest.mark.parametrize(
    ("probe", "outcome"),
    [
        (TASK, Outcome.PASS),
        (evolve(TASK, body_contains="o"), Outcome.FAIL),
        (evolve(TASK, status=204), Outcome.FAIL),
        (evolve(TASK, headers={"X-Warm-Reconcile-Task": "t2"}), Outcome.FAIL),
        (evolve(TASK, port=8081), Outcome.FAIL),
    ],
)
def test_a_page_is_requested_on_the_loopback_of_a_task(
    gate: StackGate, start: Start, probe: TaskHttp, outcome: Outcome
) -> None:
    """It listens on a loopback of its own."""
    tasks = [start("t1", says="t1")]
    gate.read_evidence(record(), is_ours=True)
    expected = Expected(DEPLOYMENT, frozenset({"t1"}))
    ((result,),) = gate.probe_tasks(expected, tasks, (proven(probe),), AMPLE)
    assert (result.outcome, result.probe) == (outcome, "task@t1")


def test_a_task_that_has_just_ended_fails_and_may_heal(gate: StackGate, start: Start) -> None:
    """The others are probed all the same; one without a process can't be."""
    ended = read_task(task("t2", pid=GONE))
    alive, (gone,) = probe_tasks(gate, start("t1", says="t1"), ended, read_task(task("t3")))
    assert (gone.probe, gone.outcome) == ("inside", Outcome.FAIL)
    assert (gone.reason, gone.target_unit) == ("task t2 has just ended", UNIT)
    assert not gone.terminal
    assert [result.outcome for result in alive] == [Outcome.PASS] * 2


def test_a_task_of_another_node_is_not_looked_for_here(gate: StackGate) -> None:
    """Docker lists the process ids of all nodes' tasks: on this host they mean nothing."""
    assert probe_tasks(gate, evolve(read_task(task("t2", pid=GONE)), node="another")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any network")
def test_a_task_that_cannot_be_entered_is_inconclusive(gate: StackGate) -> None:
    """The unit lacks a right: that is not for the release to mend."""
    ((found,),) = probe_tasks(gate, read_task(task("t1", pid=os.getpid())))
    assert (found.probe, found.outcome, found.target_unit) == ("inside", Outcome.INCONCLUSIVE, UNIT)
    assert found.reason == "task t1 can't be probed from inside: Operation not permitted"


def test_a_name_is_never_longer_than_a_name_may_be(gate: StackGate, start: Start) -> None:
    """That of the task comes last, and is cut."""
    gate.read_evidence(record(), is_ours=True)
    probe = proven(evolve(PING, name="p" * LONGEST_NAME))
    ((found,),) = gate.probe_tasks(Expected(DEPLOYMENT), [start("t1", says="t1")], (probe,), AMPLE)
    assert found.probe == "p" * 128


def test_a_loss_of_docker_is_remembered(engine: Playback, gate: StackGate) -> None:
    """A preflight reads it: its tasks are not restarted after a loss."""
    assert not gate.has_lost
    ask(gate)
    assert not gate.has_lost
    with engine.lost():
        ask(gate)
    ask(gate)
    assert gate.has_lost


def test_a_task_that_ended_between_two_losses_is_excused(engine: Playback, gate: StackGate) -> None:
    """Each loss excuses tasks seen before it, and those that have ended when it is over."""
    assert ask(gate)["tasks"] == PASS
    with engine.lost():
        ask(gate)
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate)["tasks"] == PASS
    with engine.lost():
        ask(gate)
    engine.says["/tasks"] = [task("t1", "failed"), task("t2", "failed"), task("t3")]
    assert ask(gate)["tasks"] == PASS
    engine.says["/tasks"] = [task("t3", "failed"), task("t4")]
    assert ask(gate)["tasks"] == ENDED


def test_a_task_seen_before_a_loss_is_excused_although_it_ends_later(
    engine: Playback, gate: StackGate
) -> None:
    """A dockerd that has just started may still list a task as running that it has lost."""
    assert ask(gate)["tasks"] == PASS
    with engine.lost():
        ask(gate)
    assert ask(gate)["tasks"] == PASS
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate)["tasks"] == PASS


def test_a_later_run_excuses_tasks_in_its_first_round_only(
    engine: Playback, gate: StackGate
) -> None:
    """Later ends are not excused; a loss of Docker adds to it."""
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate, is_ours=False)["tasks"] == PASS
    with engine.lost():
        ask(gate, is_ours=False)
    engine.says["/tasks"] = [task("t1", "failed"), task("t2", "failed"), task("t3")]
    assert ask(gate, is_ours=False)["tasks"] == PASS


def test_ports_are_asked_for_only_where_one_was_denied(engine: Playback, gate: StackGate) -> None:
    """A Docker that can't list its containers does no harm elsewhere."""
    engine.says["/containers/json"] = None
    engine.says["/tasks"] = [task("t1", "failed"), task("t2")]
    assert ask(gate)["tasks"] == ENDED


def test_each_held_port_has_a_time_of_its_own(
    engine: Playback, gate: StackGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins when the port is first seen to be held, and anew after it was free."""
    engine.says["/containers/json"] = []
    now = time.time()
    other = {**denied("t2"), "Status": {**denied("t2")["Status"]}}
    other["Status"]["Err"] = DENIED.replace("443", "80")

    def look(later: float, *tasks: Json) -> tuple[Outcome, bool]:
        monkeypatch.setattr(time, "time", lambda: now + later)
        engine.says["/tasks"] = list(tasks)
        return ask(gate)["tasks"]

    assert look(0.0, denied("t1")) == (Outcome.INCONCLUSIVE, False)
    assert look(LEAVING, other) == (Outcome.INCONCLUSIVE, False)
    assert look(LEAVING + 1, denied("t1")) == (Outcome.INCONCLUSIVE, False)
    assert look(2 * LEAVING + 1, denied("t1")) == (Outcome.INCONCLUSIVE, True)


KINDS = {"P": Outcome.PASS, "F": Outcome.FAIL, "I": Outcome.INCONCLUSIVE}


def rounds(answers: str) -> list[Round]:
    """Make rounds from letters for outcomes, a word for each task."""
    words = answers.split()
    return [tuple(ProbeResult("ping", KINDS[c], "so", UNIT) for c in word) for word in words]


@pytest.mark.parametrize(
    ("answers", "of_all", "of_most"),
    [
        ("PP PP PP", "P", "P"),
        ("PP PF PP", "F", "F"),
        ("PP PI PP", "I", "P"),
        ("PP PF", "F", "F"),
        ("PF PI PP", "F", "F"),
        ("I", "I", "I"),
        ("P", "P", "P"),
        ("P I", "I", "I"),
        ("P I I", "I", "I"),
        ("P P I", "I", "P"),
        ("P P I I", "I", "I"),
        ("P P P I", "I", "P"),
        ("P P P F", "F", "F"),
        ("P P I I I", "I", "I"),
        ("P P P I I", "I", "P"),
    ],
)
def test_enough_tasks_must_pass(gate: StackGate, answers: str, of_all: str, of_most: str) -> None:
    """All, or more than half if the others can't be probed; one with a failed probe fails."""
    most = StackGate(gate.stacks, "s", UNIT, "quorum")
    assert gate.summarize(rounds(answers)).outcome is KINDS[of_all]
    assert most.summarize(rounds(answers)).outcome is KINDS[of_most]


def test_the_summary_counts_and_quotes_each_failing_task(gate: StackGate) -> None:
    """The first failure of each task; with the unit of the gate."""
    found = gate.summarize(rounds("PP PFI II"))
    assert (found.probe, found.target_unit) == ("each task", UNIT)
    assert found.reason == "1 of 3 tasks passed; ping: so; ping: so"
    assert gate.summarize(rounds("P")).reason == "1 of 1 tasks passed"


def test_no_task_to_probe_is_inconclusive_for_all_and_quorum(gate: StackGate) -> None:
    """All tasks are on other nodes."""
    most = StackGate(gate.stacks, "s", UNIT, "quorum")
    for each in (gate, most):
        found = each.summarize([])
        assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, "0 of 0 tasks passed")


def test_a_task_without_probes_has_not_passed(gate: StackGate) -> None:
    """No probe is no evidence."""
    assert gate.summarize([()]).outcome is Outcome.INCONCLUSIVE
    assert gate.summarize([*rounds("P"), ()]).outcome is Outcome.INCONCLUSIVE
