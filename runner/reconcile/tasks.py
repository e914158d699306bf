"""What the engine's evidence says about a deployment. Pure: its JSON in, findings out.

A task belongs to a deployment if its spec is the one that the service has now, token included; what
the service's labels or its ``UpdateStatus`` say about a task is no evidence.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from attrs import frozen

from runner.reconcile.vocabulary import Answer

Json: TypeAlias = Mapping[str, Any]
"""An object as the engine sends it."""

TOKEN_VARIABLE: Final = "WARM_RECONCILE_TOKEN"  # noqa: S105 - the name of a variable
STACK_LABEL: Final = "com.docker.stack.namespace"

ENDED: Final = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
"""Task states that nothing follows (SwarmKit's task model)."""
BROKEN: Final = frozenset({"failed", "rejected", "complete", "orphaned"})
"""Of these, the ends that nobody asked for: a Traefik that ends with status 0 has ended, too."""
UNSCHEDULABLE: Final = "no suitable node"
SETTLING: Final = 3.0
"""Seconds that a task may be unschedulable after it was written: a port that was just left is seen
as free by the scheduler up to a second later."""


@frozen
class Task:
    """One task, as the engine reports it."""

    id: str
    service: str
    node: str
    state: str
    desired: str
    since: float
    """Unix time of the last change of state, seconds."""
    error: str
    exit_code: int | None
    container: str
    pid: int
    template: str
    """Hash of the spec that it was made from."""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_running(self) -> bool:
        return self.state == "running" and self.desired == "running"

    @property
    def name(self) -> str:
        return self.id[:12]


@frozen
class Service:
    """One service of a stack, as the engine reports it."""

    id: str
    name: str
    version: int
    """Its version index, which every write raises."""
    spec: str
    """Hash of the whole spec."""
    template: str
    """Hash of what its tasks are made from."""
    token: str | None
    image: str
    wanted: int
    """How many tasks there are to be; of a global service, one on each node that may have one."""
    is_global: bool
    is_job: bool
    """Its tasks are meant to end."""
    published: Mapping[int, int]
    """From TCP ports of the host to those of the tasks."""
    labels: Mapping[str, str]
    update: str
    """``UpdateStatus``: its state and message; empty if there is none."""
    update_started: float
    """Unix time, seconds."""


@frozen
class Node:
    """One node of the swarm."""

    id: str
    name: str
    address: str
    is_up: bool
    """Ready, and not drained or paused."""


@frozen
class Snapshot:
    """What the engine said about one stack, at about one moment."""

    services: Mapping[str, Service]
    """By name."""
    tasks: tuple[Task, ...]
    nodes: tuple[Node, ...]
    now: float
    """Unix time, seconds."""

    def tasks_of(self, service: Service) -> list[Task]:
        return [task for task in self.tasks if task.service == service.id]

    def current(self, service: Service) -> list[Task]:
        """List the tasks that were made from the spec that the service has now."""
        return [task for task in self.tasks_of(service) if task.template == service.template]

    def running(self, service: Service) -> list[Task]:
        return [task for task in self.current(service) if task.is_running]


@frozen
class Finding:
    """One thing that the engine's evidence shows."""

    about: str
    answer: Answer
    reason: str
    terminal: bool = False
    container: str = ""
    """The one that can explain it: by its last words, or by its health check."""


@frozen
class Written:
    """What a deployment wrote: the engine must still hold exactly this."""

    at: float
    """Unix time of writing, seconds."""
    gated: str
    """The full name of the service that the gate is about."""
    specs: dict[str, str]
    """Hash of the spec of each service, by its full name."""


def read_service(data: Json) -> Service:
    """Read a service of ``GET /services?status=true``."""
    spec = part(data, "Spec")
    template = part(spec, "TaskTemplate")
    container = part(template, "ContainerSpec")
    variables: list[str] = container.get("Env") or []
    environment = {name: value for name, _, value in (v.partition("=") for v in variables)}
    update = part(data, "UpdateStatus")
    mode = part(spec, "Mode")
    ports: list[Json] = part(spec, "EndpointSpec").get("Ports") or []
    return Service(
        id=data["ID"],
        name=spec["Name"],
        version=data["Version"]["Index"],
        spec=_hash(spec),
        template=_hash_template(template),
        token=environment.get(TOKEN_VARIABLE),
        image=container.get("Image", ""),
        wanted=_wanted_tasks(data, mode),
        is_global="Global" in mode,
        is_job="ReplicatedJob" in mode or "GlobalJob" in mode,
        published={
            port["PublishedPort"]: port["TargetPort"]
            for port in ports
            if port.get("PublishedPort") and port.get("Protocol") == "tcp"
        },
        labels=part(spec, "Labels"),
        update=": ".join(filter(None, (update.get("State"), update.get("Message")))),
        update_started=_time(update.get("StartedAt")),
    )


def part(data: Json, key: str) -> Json:
    """Take an object out of another; the engine leaves out, or nulls, what is empty."""
    found: Json | None = data.get(key)
    return {} if found is None else found


def _wanted_tasks(data: Json, mode: Json) -> int:
    """Count the tasks that there are to be.

    Of a global service the orchestrator tells: only it knows every constraint.
    """
    if "Replicated" in mode:
        return int(part(mode, "Replicated").get("Replicas", 1))
    return int(part(data, "ServiceStatus").get("DesiredTasks", 0))


def read_task(data: Json) -> Task:
    """Read a task of ``GET /tasks``."""
    status = part(data, "Status")
    container = part(status, "ContainerStatus")
    has_ended = status["State"] in ENDED
    return Task(
        id=data["ID"],
        service=data.get("ServiceID", ""),
        node=data.get("NodeID", ""),
        state=status["State"],
        desired=data.get("DesiredState", ""),
        since=_time(status.get("Timestamp")),
        error=status.get("Err", ""),
        exit_code=container.get("ExitCode") if has_ended else None,
        container=container.get("ContainerID", ""),
        pid=container.get("PID", 0),
        template=_hash_template(part(data, "Spec")),
    )


def read_node(data: Json) -> Node:
    """Read a node of ``GET /nodes``."""
    status = part(data, "Status")
    is_up = status.get("State") == "ready" and part(data, "Spec").get("Availability") == "active"
    name = part(data, "Description").get("Hostname", data["ID"])
    return Node(data["ID"], name, status.get("Addr", ""), is_up)


def judge(
    snapshot: Snapshot,
    written: Written,
    token: str,
    excused: frozenset[str],
    require: Literal["all", "quorum"],
) -> list[Finding]:
    """Say what the evidence shows: one finding for the stack, one for the tasks of the gate.

    Args:
        snapshot: what the engine says now.
        written: what the deployment wrote.
        token: the deployment's.
        excused: ids of tasks whose end is nobody's fault: a restart of the engine took them.
        require: how many tasks must run.
    """
    findings = [_find_changes(snapshot, written, token)]
    for name in written.specs:
        service = snapshot.services.get(name)
        if service is None or service.is_job:
            continue
        about = "tasks" if name == written.gated else f"tasks of {name}"
        finding = _judge_service(snapshot, service, written, excused, require)
        if name == written.gated or finding[0] is not Answer.PASS:
            answer, reason, terminal, container = finding
            findings.append(Finding(about, answer, reason, terminal, container))
    return findings


def describe_changes(snapshot: Snapshot, written: Written, token: str) -> str:
    """Name the first way in which the engine holds something else than was written."""
    for name, spec in written.specs.items():
        service = snapshot.services.get(name)
        if service is None:
            return f"service {name} is gone"
        if service.spec != spec or (name == written.gated and service.token != token):
            by = f" (Swarm says {service.update})" if "rollback" in service.update else ""
            return f"service {name} was changed by another hand{by}"
    more = sorted(set(snapshot.services) - set(written.specs))
    return f"service {more[0]} was added by another hand" if more else ""


def _find_changes(snapshot: Snapshot, written: Written, token: str) -> Finding:
    """Another hand's change is no evidence about the release, in either direction."""
    changes = describe_changes(snapshot, written, token)
    if changes:
        return Finding("stack", Answer.INCONCLUSIVE, f"since it was deployed, {changes}")
    return Finding("stack", Answer.PASS, "the engine holds what was deployed")


_Judgement = tuple[Answer, str, bool, str]


def _judge_service(
    snapshot: Snapshot,
    service: Service,
    written: Written,
    excused: frozenset[str],
    require: Literal["all", "quorum"],
) -> _Judgement:
    current = snapshot.current(service)
    older = [
        task
        for task in snapshot.tasks_of(service)
        if task.template != service.template and not task.has_ended
    ]
    for task in current:
        if task.state in BROKEN and task.id not in excused and task.since >= written.at - 1:
            return Answer.FAIL, _describe_end(task), True, task.container
    if "paused" in service.update and service.update_started >= written.at - 1:
        return Answer.FAIL, f"Swarm stopped the update, {service.update}", True, ""
    wanted, missing = _wanted(snapshot, service, require)
    running = snapshot.running(service)
    if len(running) < wanted:
        return _describe_lack(current, older, len(running), wanted, snapshot.now)
    if older:
        names = ", ".join(f"{task.name} ({task.state})" for task in older)
        return Answer.FAIL, f"a task of an older spec is still there: {names}", False, ""
    if missing and require == "all":
        return Answer.FAIL, f"node {', '.join(missing)} is down", False, ""
    down = f"; node {', '.join(missing)} is down" if missing else ""
    names = ", ".join(task.name for task in running)
    return Answer.PASS, f"{len(running)} of {wanted} running: {names}{down}", False, ""


def _wanted(
    snapshot: Snapshot, service: Service, require: Literal["all", "quorum"]
) -> tuple[int, list[str]]:
    """Count the tasks that must run, and name the nodes that can't run theirs."""
    down = [node.name for node in snapshot.nodes if not node.is_up]
    missing = down if service.is_global else []
    if require == "quorum":
        return (service.wanted + len(missing)) // 2 + 1, missing
    return max(1, service.wanted), missing


def _describe_lack(
    current: Iterable[Task], older: list[Task], running: int, wanted: int, now: float
) -> _Judgement:
    waiting = [task for task in current if not task.has_ended and not task.is_running]
    lack = f"{running} of {wanted} tasks running"
    if not waiting:
        return Answer.FAIL, f"{lack}, and none is on its way", False, ""
    task = max(waiting, key=lambda task: bool(task.error))
    says = f"{lack}; task {task.name} is {task.state}" + (f": {task.error}" if task.error else "")
    is_stuck = task.error.startswith(UNSCHEDULABLE) and now - task.since > SETTLING
    # While an older task holds the port, that is no news.
    return Answer.FAIL, says, is_stuck and not older, task.container


def _describe_end(task: Task) -> str:
    if task.state == "rejected":
        return f"task {task.name} was rejected: {task.error}"
    if task.exit_code is not None and task.container:
        said = f": {task.error}" if task.error and "non-zero exit" not in task.error else ""
        return f"task {task.name} ended with status {task.exit_code}{said}"
    return f"task {task.name} has {task.state}: {task.error}"


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_template(template: Json) -> str:
    """Hash a TaskTemplate; the engine names the runtime in services, but not in tasks."""
    return _hash({key: value for key, value in template.items() if key != "Runtime"})


def _time(text: str | None) -> float:
    """Read RFC 3339 with nanoseconds; 0 if there is none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
