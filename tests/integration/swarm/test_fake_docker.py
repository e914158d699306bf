"""The fake dockerd of the unit tests responds like a real one to the same calls."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest
from attrs import frozen
from fake_compose import IMAGE_LABEL
from fake_docker import FakeDocker, running_docker
from fake_swarm import NAMESPACE

from runner.platforms.swarm.engine_api import Engine as Api
from runner.reconcile.errors import EngineUnreachableError
from swarm.engine import NETWORK, Engine
from swarm.images import make_image
from swarm.network import clean_environment, wait_for

pytestmark = pytest.mark.swarm

Json = dict[str, Any]
IMAGE: Final = "shell:latest"
STACK: Final = "fake"
AMPLE: Final = 60.0
"""Seconds; no response takes as long."""
WRITE: Final = ("--prune", "--resolve-image=never", "--with-registry-auth", STACK)
IDS: Final = ("Target", "ConfigID", "SecretID")
"""Keys of a spec whose values each engine makes up."""
OURS: Final = frozenset({"PreviousSpec", "UpdateStatus", "JobStatus"})
"""Keys of a service that are there at some times only."""


@frozen
class Side:
    """The fake dockerd or the real one."""

    command: Callable[..., subprocess.CompletedProcess[str]]
    api: Api


@pytest.fixture(scope="module")
def actual(engine: Engine, need: Callable[[str], str]) -> Side:
    make_image(engine, IMAGE, Path(need("busybox")))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _run(arguments, engine.environment)

    return Side(run, Api(str(engine.socket), AMPLE))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    home = tmp_path_factory.mktemp("fake")
    with running_docker(home) as docker:
        docker.swarm.put_network(NETWORK)
        environment = {
            **clean_environment(),
            "PATH": f"{home / 'bin'}:/usr/bin:/bin",
            "DOCKER_HOST": f"unix://{docker.path}",
        }
        yield Side(lambda *arguments: _run(arguments, environment), Api(str(docker.path), AMPLE))
        _settle(docker)


def _settle(docker: FakeDocker) -> None:
    assert docker.swarm.services == {}


def _run(
    arguments: tuple[str, ...], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def document(tmp_path: Path, token: str) -> Path:
    """Write a document with all that the fake knows of one."""
    (tmp_path / "static").write_text("ping: {}\n")
    app = {
        "image": IMAGE,
        "command": ["sh", "-c", "while :; do sleep 0.2; done"],
        "environment": {"B": "$$2", "A": "", "WARM_RECONCILE_TOKEN": token},
        "labels": {"of": "container"},
        "networks": {"proxy": {"aliases": ["web"]}, "internal": None},
        "ports": [
            {"mode": "host", "target": 80, "published": 8080, "protocol": "tcp"},
            {"mode": "ingress", "target": 81, "published": 8081, "protocol": "udp"},
        ],
        "volumes": [
            {"type": "bind", "source": "/etc", "target": "/etc/host", "read_only": True},
            {"type": "volume", "source": "data", "target": "/data"},
            {"type": "tmpfs", "target": "/scratch"},
        ],
        "configs": [{"source": "static", "target": "/etc/static"}],
        "healthcheck": {"test": ["CMD", "true"], "interval": "1s", "timeout": "5s", "retries": 9},
        "stop_grace_period": "1s",
        "deploy": {
            "labels": {"of": "service"},
            "update_config": {"order": "stop-first", "failure_action": "pause"},
            "restart_policy": {"condition": "any", "delay": "1s"},
            "placement": {"constraints": ["node.role == manager"]},
            "resources": {"limits": {"memory": "100000000"}},
        },
    }
    fails = {
        "image": IMAGE,
        "command": ["sh", "-c", "exit 3"],
        "deploy": {"mode": "global", "restart_policy": {"condition": "none"}},
    }
    waits = {
        "image": IMAGE,
        "command": ["sleep", "1000"],
        "deploy": {"placement": {"constraints": ["node.labels.nowhere == yes"]}},
    }
    made = {
        "version": "3.8",
        "services": {"app": app, "fails": fails, "waits": waits},
        "networks": {"proxy": {"external": True, "name": NETWORK}, "internal": {"internal": True}},
        "volumes": {"data": {"name": "fake-data"}},
        "configs": {"static": {"name": "fake_static_1", "file": str(tmp_path / "static")}},
    }
    file = tmp_path / f"{token}.json"
    file.write_text(json.dumps(made))
    return file


def essence(value: Any) -> Any:  # noqa: ANN401 - of any object
    """Remove null and false values, which newer versions add, and generated values."""
    if isinstance(value, dict):
        members = cast("Json", value).items()
        kept = {k: v for k, v in members if v not in (None, False) and k not in IDS}
        made = {key: essence(each) for key, each in kept.items()}
        if "Networks" in made:  # they are in the order of their ids
            made["Networks"].sort(key=str)
        return made
    if isinstance(value, list):
        return [essence(each) for each in cast("list[object]", value)]
    return value


def shape(value: Any) -> Any:  # noqa: ANN401 - of any object
    """Return the types of the members of an object, and of the entries of a list."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in cast("Json", value).items()}
    if isinstance(value, list):
        return [shape(each) for each in cast("list[object]", value)[:1]]
    return type(value).__name__


def assert_within(fake: Any, real: Any, where: str) -> None:  # noqa: ANN401 - shapes
    """Each member in the fake's responses is in the real ones, with the same type.

    What is null or an empty list in one of them has no type: dockerd fills some only later.
    """
    if isinstance(fake, dict) and isinstance(real, dict):
        told = cast("Json", real)
        for key, each in cast("Json", fake).items():
            assert key in told, f"{where}.{key} is not in the response of a real dockerd"
            assert_within(each, told[key], f"{where}.{key}")
    elif isinstance(fake, list) and isinstance(real, list):
        for mine, other in zip(
            cast("list[object]", fake), cast("list[object]", real), strict=False
        ):
            assert_within(mine, other, f"{where}[]")
    elif "NoneType" not in (fake, real):
        assert fake == real, where


def services(side: Side) -> dict[str, Json]:
    return {service["Spec"]["Name"]: service for service in side.api.services(STACK)}


KINDS: Final = ("running", "failed", "pending")
"""States that tasks of the document stay in."""


def tasks_by_state(side: Side) -> dict[str, Json]:
    return {
        task["Status"]["State"]: {k: v for k, v in task.items() if k != "NetworksAttachments"}
        for task in side.api.tasks(STACK)
        if task["Status"]["State"] in KINDS
    }


def settled(side: Side) -> dict[str, Json] | None:
    """A task that runs, one that has failed, and one that has no place, once all are there."""
    tasks = tasks_by_state(side)
    return tasks if len(tasks) == len(KINDS) else None


COMPLAINT: Final = re.compile(r"\b[0-9a-z]{25}\b")
"""Ids, in what the command prints."""


def test_both_respond_alike_to_the_same_calls(fake: Side, actual: Side, tmp_path: Path) -> None:
    """Exit codes and messages of the command, equal specs, and types of all else."""
    sides = (fake, actual)
    first, second = document(tmp_path, "t1"), document(tmp_path, "t2")

    def both(*arguments: str) -> None:
        done = [side.command(*arguments) for side in sides]
        ends = [(d.returncode, COMPLAINT.sub("ID", _last(d.stderr))) for d in done]
        assert ends[0] == ends[1], (arguments, ends)

    def compare_specs() -> None:
        mine, other = (
            {name: essence(service["Spec"]) for name, service in services(side).items()}
            for side in sides
        )
        assert mine == other

    both("stack", "deploy", f"--compose-file={first}", *WRITE)
    compare_specs()
    indexes = [services(side)[f"{STACK}_app"]["Version"]["Index"] for side in sides]
    both("stack", "deploy", f"--compose-file={second}", *WRITE)
    compare_specs()
    for side, before in zip(sides, indexes, strict=True):
        assert services(side)[f"{STACK}_app"]["Version"]["Index"] > before
    both("service", "update", "--detach", "--no-resolve-image", "--label-rm", IMAGE_LABEL, _waits())
    compare_specs()
    both("service", "update", "--detach", "--no-resolve-image", "--label-rm", IMAGE_LABEL, "none")
    both("config", "rm", "fake_static_1")
    both("config", "rm", "fake_none")
    both("stack", "deploy", "--compose-file=/nonexistent/compose.json", *WRITE)
    both("stack", "rm", "none")
    both("network", "create", "--driver=bridge", "docker_gwbridge")
    for find in ("network", "config", "secret", "image", "container"):
        assert [getattr(side.api, find)("none-such") for side in sides] == [None, None]
    _compare_shapes(fake, actual)
    both("stack", "rm", STACK)
    wait_for(lambda: _is_bare(sides), "no services")
    for side in sides:
        assert side.api.configs_labelled(f"{NAMESPACE}={STACK}") == []


def _is_bare(sides: tuple[Side, ...]) -> bool | None:
    return None if any(side.api.services(STACK) for side in sides) else True


def _waits() -> str:
    return f"{STACK}_waits"


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _compare_shapes(fake: Side, actual: Side) -> None:
    other = wait_for(partial(settled, actual), "a task of each kind")
    for state, task in tasks_by_state(fake).items():
        assert_within(shape(task), shape(other[state]), f"{state} task")
    name = f"{STACK}_app"
    mine, other = (
        {key: each for key, each in services(side)[name].items() if key not in OURS}
        for side in (fake, actual)
    )
    assert_within(shape(mine), shape(other), "service")
    for read in ("nodes", "all_services"):
        assert getattr(fake.api, read)()[0].keys() <= getattr(actual.api, read)()[0].keys() | OURS
    assert_within(shape(fake.api.info()["Swarm"]), shape(actual.api.info()["Swarm"]), "info")
    assert_within(shape(fake.api.nodes()[0]), shape(actual.api.nodes()[0]), "node")
    configs = [side.api.config("fake_static_1") for side in (fake, actual)]
    assert_within(shape(configs[0]), shape(configs[1]), "config")
    networks = [side.api.network("ingress") or {} for side in (fake, actual)]
    assert_within(shape(networks[0]["IPAM"]), shape(networks[1]["IPAM"]), "ingress")


def test_both_are_out_of_reach_alike(tmp_path: Path, actual: Side) -> None:
    """The command's error is one that docker_cli.py knows as unreachable."""
    with running_docker(tmp_path) as docker, docker.lost():
        environment = {
            **clean_environment(),
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "DOCKER_HOST": f"unix://{docker.path}",
        }
        mine = _run(("stack", "rm", "s"), environment)
        with pytest.raises(EngineUnreachableError):
            Api(str(docker.path), AMPLE).info()
    absent = f"unix://{tmp_path}/none.sock"
    other = _run(("stack", "rm", "s"), {**clean_environment(), "DOCKER_HOST": absent})
    assert actual.api.info()
    words = "Cannot connect to the Docker daemon at unix://"
    assert [done.returncode for done in (mine, other)] == [1, 1]
    assert _last(mine.stderr).startswith(words)
    assert _last(other.stderr).startswith(words)
