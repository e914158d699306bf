"""Parses services, tasks and nodes of the Docker API. Pure: JSON in, values out."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

from attrs import frozen

Json: TypeAlias = Mapping[str, Any]
"""An object of the Docker API."""

TOKEN_VARIABLE: Final = "WARM_RECONCILE_TOKEN"  # noqa: S105 - the name of a variable
STACK_LABEL: Final = "com.docker.stack.namespace"

ENDED: Final = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
"""Final task states (SwarmKit's task model)."""
BROKEN: Final = frozenset({"failed", "rejected", "complete", "orphaned"})
"""Final states that Swarm did not request. ``complete`` too: a Traefik must not exit with 0."""
_POINTER: Final = "Init"
"""The one boolean of a spec whose false differs from null: it overrides dockerd's configuration."""


@frozen
class Task:
    """One task, as the Docker API reports it."""

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
    """Hash of the spec that it was created from."""

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
    """One service of a stack, as the Docker API reports it."""

    id: str
    name: str
    version: int
    """Its version index, which every write raises."""
    spec: str
    """Hash of the whole spec."""
    template: str
    """Hash of the spec that its tasks are created from."""
    token: str | None
    image: str
    wanted: int
    """Number of tasks that should run; for a global service one on each eligible node."""
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
    may_complete: bool = False
    """Its tasks may end with status 0, and are not restarted then."""


@frozen
class Node:
    """One node of the swarm."""

    id: str
    name: str
    address: str
    is_up: bool
    """Its state is ready. A drained node is up: its operator wants it so."""


@frozen
class Snapshot:
    """The services, tasks and nodes of one stack, read at about one moment."""

    services: Mapping[str, Service]
    """By name."""
    tasks: tuple[Task, ...]
    nodes: tuple[Node, ...]
    now: float
    """Unix time, seconds."""

    def tasks_of(self, service: Service) -> list[Task]:
        return [task for task in self.tasks if task.service == service.id]

    def current(self, service: Service) -> list[Task]:
        """List the tasks that were created from the present spec of the service."""
        return [task for task in self.tasks_of(service) if task.template == service.template]

    def running(self, service: Service) -> list[Task]:
        return [task for task in self.current(service) if task.is_running]

    def completed(self, service: Service) -> list[Task]:
        """List the completed tasks of the present spec, if the service may complete."""
        current = self.current(service) if service.may_complete else []
        return [task for task in current if task.state == "complete"]


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
        may_complete=part(template, "RestartPolicy").get("Condition", "any") != "any",
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


def part(data: Json, key: str) -> dict[str, Any]:
    """Return a member that is an object; empty if it is missing or null."""
    found: dict[str, Any] | None = data.get(key)
    return {} if found is None else found


def _wanted_tasks(data: Json, mode: Json) -> int:
    """Return how many tasks should run.

    For a global service it is the orchestrator's number: only it knows every constraint.
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
    is_up = status.get("State") == "ready"
    name = str(part(data, "Description").get("Hostname", data["ID"]))
    return Node(data["ID"], name, str(status.get("Addr", "")), is_up)


def _hash(value: object) -> str:
    text = json.dumps(_essence(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _essence(value: object) -> object:
    """Remove null and false members, which mean the same as missing ones.

    Otherwise an upgrade of Docker would look like a foreign change, as newer versions show fields
    that older ones lack: 26 has ``"NoNewPrivileges": false`` where 20.10 has nothing.
    """
    if isinstance(value, dict):
        members = cast("dict[str, object]", value).items()
        kept = ((k, v) for k, v in members if v is not None and (v is not False or k == _POINTER))
        return {key: _essence(member) for key, member in kept}
    if isinstance(value, list):
        return [_essence(item) for item in cast("list[object]", value)]
    return value


def _hash_template(template: Json) -> str:
    """Hash the spec that a task is created from.

    Without the runtime, which the API has in services but not in tasks; and without the placement:
    Swarm keeps a task whose node still fits, with its old placement.
    """
    return _hash({k: v for k, v in template.items() if k not in {"Runtime", "Placement"}})


def _time(text: str | None) -> float:
    """Parse RFC 3339 with nanoseconds; 0 if there is no time."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
