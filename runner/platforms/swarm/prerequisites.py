"""Checks what a stack needs of the swarm: external objects, nodes, and the gateway bridge."""

import time
from typing import Final

from runner.platforms.swarm.compose import (
    Document,
    external_configs,
    external_networks,
    external_secrets,
    host_ports,
)
from runner.platforms.swarm.docker_cli import Docker, RefusedError
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.objects import Json, part
from runner.platforms.swarm.stack_document import ASK_FROM_INSIDE
from runner.reconcile.errors import DeployError, NotPreparedError

GATEWAY: Final = "docker_gwbridge"
"""The bridge between tasks and their host: tasks see a local client as its gateway address."""
GATEWAY_PATIENCE: Final = 5.0
"""Seconds to wait for it in a new swarm: it is there 0.3 to 0.6 s after `swarm init` returns."""
GATEWAY_OPTIONS: Final = (
    f"com.docker.network.bridge.name={GATEWAY}",
    "com.docker.network.bridge.enable_icc=false",
    "com.docker.network.bridge.enable_ip_masquerade=true",
)
"""Those that dockerd itself creates it with."""
CREATE_TIMEOUT: Final = 10.0
"""Seconds."""
PAUSE: Final = 0.1
INGRESS: Final = "ingress"
"""The network of the routing mesh: through it every client is seen as one of its addresses."""
CREATE: Final = {
    "network": "docker network create --driver overlay --attachable {}",
    "secret": "docker secret create {} FILE",
    "config": "docker config create {} FILE",
}


def require_externals(engine: Engine, document: Document) -> None:
    """Make sure that the external networks, secrets and configs of a stack exist.

    Raises:
        NotPreparedError: one does not exist; the hint has the command that creates it.
        EngineUnreachableError: Docker can't be asked.
    """
    wanted = (
        ("network", external_networks(document), engine.network),
        ("secret", external_secrets(document), engine.secret),
        ("config", external_configs(document), engine.config),
    )
    for kind, names, find in wanted:
        for name in sorted(names):
            if find(name) is None:
                raise NotPreparedError(
                    f"the {kind} {name} doesn't exist in the swarm",
                    hint=f"create it: {CREATE[kind].format(name)}",
                )


def require_nodes(engine: Engine, document: Document) -> None:
    """Refuse more tasks with host ports than there are nodes: Swarm would leave them pending.

    Raises:
        DeployError: a service wants more tasks than there are nodes for its ports.
        EngineUnreachableError: Docker can't be asked.
    """
    nodes = sum(data["Status"]["State"] == "ready" for data in engine.nodes())
    for key, service in document["services"].items():
        wanted: int = part(service, "deploy").get("replicas", 1)
        if host_ports(service) and wanted > nodes:
            raise DeployError(
                f"service {key} needs {wanted} tasks that each publish a port on their host,"
                f" but there is only {nodes} node{'s' if nodes > 1 else ''}",
                hint="publish in mode ingress, or set deploy.mode: global",
            )


def require_gateway(engine: Engine, docker: Docker) -> None:
    """Make sure that the gateway bridge exists: its gateway is the host's address for tasks.

    Dockerd creates the bridge soon after `swarm init`, at the latest for the first task. A task
    that starts before it would refuse the identity probe, as the address is in its environment.

    Raises:
        NotPreparedError: it can't be created.
        EngineUnreachableError: Docker can't be asked.
    """
    deadline = time.monotonic() + GATEWAY_PATIENCE
    while not _pools(engine.network(GATEWAY)):
        if time.monotonic() < deadline:
            time.sleep(PAUSE)
            continue
        options = [f"--opt={option}" for option in GATEWAY_OPTIONS]
        try:
            docker.run(
                *("network", "create", "--driver=bridge", *options, GATEWAY),
                timeout=CREATE_TIMEOUT,
            )
        except RefusedError as error:
            if not _pools(engine.network(GATEWAY)):  # else dockerd was faster
                raise NotPreparedError(
                    f"the network {GATEWAY} can't be created: {error.message}"
                ) from error


def name_askers(engine: Engine, service: Document) -> str:
    """Write the rule, in Traefik's language, for who may ask for the identity.

    It is this host, as tasks see it, and the other nodes.
    """
    ranges = [data.get("Status", {}).get("Addr") for data in engine.nodes()]
    bridge = engine.network(GATEWAY)
    ranges += [pool.get("Gateway") for pool in _pools(bridge)]
    if not host_ports(service):
        ranges += [pool.get("Subnet") for pool in _pools(engine.network(INGRESS))]
    known = sorted({each for each in ranges if each and each != "0.0.0.0"})  # noqa: S104
    return " || ".join([ASK_FROM_INSIDE, *(f"ClientIP(`{each}`)" for each in known)])


def _pools(network: Json | None) -> list[Json]:
    """List the address pools of a network; none, if there is no such network."""
    return part(network or {}, "IPAM").get("Config") or []
