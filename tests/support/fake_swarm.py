"""State of a Docker Swarm in memory: services with version indexes, tasks, configs, images.

Every object is a copy of one in ``recorded/docker-20.10.24.json``, so that its shape is Docker's
own; ``integration/swarm/test_fake_docker.py`` compares the answers of both. Tasks change their
state at once; ``fates`` says how those of an image end.
"""

import copy
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from attrs import define, evolve, field, frozen
from recorded import read_recording

Json: TypeAlias = dict[str, Any]

RECORDED: Final[Json] = json.loads(read_recording("docker-20.10.24.json"))
NAMESPACE: Final = "com.docker.stack.namespace"
NODE: Final[str] = RECORDED["node"]["ID"]
LOST: Final = "rpc error: code = Unknown desc = update out of sequence"


class RefusalError(Exception):
    """Docker refuses; the message is its own."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@frozen
class Fate:
    """The fate of a task as soon as Swarm has created it."""

    kind: str = "running task"
    """Of the recorded tasks."""
    error: str = ""
    exit_code: int = 0


RUNS: Final = Fate()
DONE: Final = Fate("completed task")
FAILS: Final = Fate("failed task", "task: non-zero exit (3)", 3)
WAITS: Final = Fate("pending task")
NO_PLACE: Final = evolve(
    WAITS, error="no suitable node (scheduling constraints not satisfied on 1 node)"
)


def recorded(kind: str) -> Json:
    found: Json = copy.deepcopy(RECORDED[kind])
    return found


def part(data: Json, key: str) -> Json:
    """Return a member that is an object; empty if missing or null."""
    found: Json = data.get(key) or {}
    return found


def parts(data: Json, key: str) -> list[Json]:
    """Return a member that is a list of objects; empty if missing or null."""
    found: list[Json] = data.get(key) or []
    return found


def variables_of(spec: Json) -> dict[str, str]:
    """Read the environment of a ``ContainerSpec``."""
    found: list[str] = spec.get("Env") or []
    return dict(each.split("=", 1) for each in found)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def make_id() -> str:
    return secrets.token_hex(13)[:25]


def _no_write() -> None:
    pass


@define
class FakeSwarm:
    """One manager, with the objects of its API; tests read and change it directly."""

    info: Json = field(factory=lambda: recorded("info"))
    nodes: list[Json] = field(factory=lambda: [recorded("node")])
    services: dict[str, Json] = field(factory=dict[str, Json])
    """By name, as the rest."""
    tasks: list[Json] = field(factory=list[Json])
    configs: dict[str, Json] = field(factory=dict[str, Json])
    secrets: dict[str, Json] = field(factory=dict[str, Json])
    networks: dict[str, Json] = field(factory=dict[str, Json])
    images: dict[str, Json] = field(factory=dict[str, Json])
    """By every reference that finds one."""
    registry: dict[str, str] = field(factory=dict[str, str])
    """Digests, by name and tag."""
    containers: dict[str, Json] = field(factory=dict[str, Json])
    """By id, as ``docker inspect`` prints them."""
    listed: dict[str, Json] = field(factory=dict[str, Json])
    """The same, as ``docker ps`` prints them."""
    logs: dict[str, bytes] = field(factory=dict[str, bytes])
    """Of containers, by id."""
    fates: dict[str, Fate] = field(factory=dict[str, Fate])
    """By image; a task of any other image runs."""
    pid: int = 0
    """The process of each running task."""
    before_write: Callable[[], None] = _no_write
    """Called after the docker command has read a service and before it writes."""
    _index: int = 100
    _labels: dict[str, Json] = field(factory=dict[str, Json])
    """Of the service that a task was made for, by the task's id: Swarm keeps them with it."""

    def __attrs_post_init__(self) -> None:
        for name, kind in (
            ("ingress", "ingress network"),
            ("docker_gwbridge", "bridge network"),
            ("proxy", "overlay network"),
        ):
            self.networks[name] = recorded(kind)

    # What an operator does ------------------------------------------------------------------------

    def add_image(self, *references: str, digests: tuple[str, ...] = ()) -> str:
        """Add an image; return its id."""
        identity = "sha256:" + secrets.token_hex(32)
        made = {**recorded("image"), "Id": identity, "RepoDigests": list(digests)}
        made["RepoTags"] = [name for name in references if "@" not in name]
        self.images |= dict.fromkeys((*references, identity), made)
        return identity

    def add_node(self, name: str, *, state: str = "ready", address: str = "10.0.0.2") -> str:
        node: Json = recorded("node")
        node |= {"ID": make_id(), "Status": {"State": state, "Addr": address}}
        node["Description"]["Hostname"] = name
        self.nodes.append(node)
        return str(node["ID"])

    def change_service(self, name: str, change: Callable[[Json], None]) -> None:
        """Write a service as someone else would, with its present version index."""
        spec = copy.deepcopy(self.services[name]["Spec"])
        change(spec)
        self.put_service(spec, version=self.services[name]["Version"]["Index"])

    # What Swarm does ------------------------------------------------------------------------------

    def put_service(self, spec: Json, *, version: int | None = None) -> None:
        """Create a service, or update it if ``version`` is its version index.

        Raises:
            RefusalError: it has another version by now.
        """
        name = spec["Name"]
        if version is None:
            made = {**recorded("service"), "ID": make_id(), "CreatedAt": now()}
            for key in ("PreviousSpec", "UpdateStatus", "ServiceStatus"):
                made.pop(key, None)
            self.services[name] = made
        else:
            made = self.services[name]
            if made["Version"]["Index"] != version:
                raise RefusalError(LOST)
            made["PreviousSpec"] = made["Spec"]
            if spec["TaskTemplate"] != made["Spec"]["TaskTemplate"]:
                status = {"State": "updating", "Message": "update in progress"}
                made["UpdateStatus"] = {**status, "StartedAt": now()}
        self._index += 1
        made["Version"], made["UpdatedAt"] = {"Index": self._index}, now()
        made["Spec"] = copy.deepcopy(spec)
        made["Endpoint"] = {"Spec": copy.deepcopy(spec["EndpointSpec"])}
        self._orchestrate(made)

    def remove_service(self, name: str) -> None:
        service = self.services.pop(name)
        for task in self.tasks_of(service):
            self._stop(task)
        self.tasks = [task for task in self.tasks if task["ServiceID"] != service["ID"]]

    def put_config(self, spec: Json) -> None:
        """Create a config, or update the labels of one.

        Raises:
            RefusalError: there is one of this name with other content.
        """
        there = self.configs.get(spec["Name"])
        if there is not None and there["Spec"]["Data"] != spec["Data"]:
            raise RefusalError(
                "rpc error: code = InvalidArgument desc = only updates to Labels are allowed"
            )
        self._index += 1
        made = there or {**recorded("config"), "ID": make_id()}
        self.configs[spec["Name"]] = {**made, "Version": {"Index": self._index}, "Spec": spec}

    def remove_config(self, name: str) -> None:
        """Remove a config.

        Raises:
            RefusalError: there is none, or a service uses it.
        """
        config = self.configs.get(name)
        if config is None:
            raise RefusalError(f"config {name} not found", 404)
        for service in self.services.values():
            used = parts(service["Spec"]["TaskTemplate"]["ContainerSpec"], "Configs")
            if config["ID"] in [each["ConfigID"] for each in used]:
                raise RefusalError(
                    f"rpc error: code = InvalidArgument desc = config '{name}' is in use by the"
                    f" following service: {service['Spec']['Name']}"
                )
        del self.configs[name]

    def put_secret(self, name: str) -> None:
        secret = {**recorded("secret"), "ID": make_id()}
        self.secrets[name] = {**secret, "Spec": {"Name": name, "Labels": {}}}

    def put_network(self, name: str, kind: str = "overlay network", **more: object) -> None:
        self.networks[name] = {**recorded(kind), "Name": name, "Id": make_id(), **more}

    def tasks_of(self, service: Json) -> list[Json]:
        return [task for task in self.tasks if task["ServiceID"] == service["ID"]]

    def running(self, name: str) -> list[Json]:
        """List the running tasks of a service."""
        tasks = self.tasks_of(self.services[name])
        return [task for task in tasks if task["Status"]["State"] == "running"]

    def labels_of(self, task: Json) -> Mapping[str, str]:
        return self._labels[task["ID"]]

    def status_of(self, service: Json) -> Json:
        """Return the ``ServiceStatus`` of a service."""
        tasks = self.tasks_of(service)
        states = [task["Status"]["State"] for task in tasks]
        wanted = [task for task in tasks if task["DesiredState"] == "running"]
        return {
            "RunningTasks": states.count("running"),
            "DesiredTasks": len(wanted),
            "CompletedTasks": states.count("complete"),
        }

    def end(self, task: Json, fate: Fate = FAILS, *, desired: str = "shutdown") -> None:
        """Let a task end."""
        self._drop_container(task)
        self._settle(task, fate)
        task["DesiredState"] = desired

    def start(self, service: Json, slot: int, node: str = NODE) -> Json:
        """Start one more task, as Swarm does where one has ended."""
        spec = copy.deepcopy(service["Spec"]["TaskTemplate"])
        spec.pop("Runtime", None)
        place = {"ID": make_id(), "ServiceID": service["ID"], "NodeID": node, "Slot": slot}
        task: Json = {**recorded("running task"), **place, "Spec": spec}
        self._labels[task["ID"]] = service["Spec"]["Labels"]
        self.tasks.append(task)
        usual = DONE if "ReplicatedJob" in service["Spec"]["Mode"] else RUNS
        self._settle(task, self.fates.get(spec["ContainerSpec"]["Image"], usual))
        return task

    def _orchestrate(self, service: Json) -> None:
        mode = service["Spec"]["Mode"]
        template = dict(service["Spec"]["TaskTemplate"])
        template.pop("Runtime", None)
        kept: set[tuple[int, str]] = set()
        places = self._places(mode)
        for task in self.tasks_of(service):
            place = (task["Slot"], task["NodeID"])
            if task["DesiredState"] != "running":
                continue
            if task["Spec"] == template and place in places:
                kept.add(place)
            else:
                self._stop(task)
        for slot, node in places:
            if (slot, node) not in kept:
                self.start(service, slot, node)

    def _places(self, mode: Json) -> list[tuple[int, str]]:
        if "Global" in mode:
            ready = [node for node in self.nodes if node["Status"]["State"] == "ready"]
            return [(0, node["ID"]) for node in ready]
        wanted = mode.get("Replicated", {}).get("Replicas", 1)
        return [(slot, NODE) for slot in range(1, wanted + 1)]

    def _stop(self, task: Json) -> None:
        if task["Status"]["State"] == "running":
            self._drop_container(task)
            self._settle(task, Fate("stopped task", "", 137))
        task["DesiredState"] = "shutdown"

    def _drop_container(self, task: Json) -> None:
        status = task["Status"].get("ContainerStatus", {})
        self.listed.pop(status.get("ContainerID", ""), None)

    def _settle(self, task: Json, fate: Fate) -> None:
        """Give a task the status that Docker reports of such a one."""
        pattern = recorded(fate.kind)
        status = {**pattern["Status"], "Timestamp": now()}
        task["DesiredState"] = pattern["DesiredState"]
        if fate.error:
            status["Err"] = fate.error
        if "ContainerStatus" in status:
            container = task["Status"]["ContainerStatus"]["ContainerID"]
            if fate.kind == "running task":
                container = secrets.token_hex(32)
                self._make_container(task, container)
            status["ContainerStatus"] = {
                "ContainerID": container,
                "PID": self.pid if fate.kind == "running task" else 0,
                "ExitCode": fate.exit_code,
            }
        else:
            task.pop("NodeID", None)
        task["Status"] = status

    def _make_container(self, task: Json, identity: str) -> None:
        found: Json = {**recorded("container"), "Id": identity}
        found["State"].pop("Health")  # there is one only where a check is defined
        self.containers[identity] = found
        service = next(each for each in self.services.values() if each["ID"] == task["ServiceID"])
        published = parts(service["Spec"]["EndpointSpec"], "Ports")
        ports = [
            {"IP": "::", "PrivatePort": port["TargetPort"], "Type": port["Protocol"]}
            | {"PublicPort": port["PublishedPort"]}
            for port in published
            if port["PublishMode"] == "host"
        ]
        self.listed[identity] = {**recorded("listed container"), "Id": identity, "Ports": ports}
