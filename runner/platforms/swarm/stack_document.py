"""Adapts a release's compose document to one deployment, or to its preflight. Pure."""

import copy
import hashlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from runner.platforms.swarm.compose import Document
from runner.platforms.swarm.objects import TOKEN_VARIABLE, part
from runner.reconcile.model import Deployment

TASK_VARIABLE: Final = "WARM_RECONCILE_TASK"
ASKERS_VARIABLE: Final = "WARM_RECONCILE_ASKERS"
RELEASE_LABEL: Final = "warm-reconcile.release"
DIGEST_LABEL: Final = "warm-reconcile.digest"
UNIT_LABEL: Final = "warm-reconcile.unit"
PREFLIGHT_LABEL: Final = "warm-reconcile.preflight"
_NAME_LENGTH: Final = 24
ISOLATED: Final = "isolated"
ASK_FROM_INSIDE: Final = "ClientIP(`127.0.0.0/8`) || ClientIP(`::1`)"


def inject(
    document: Document,
    deployment: Deployment,
    *,
    service: str,
    unit: str,
    askers: str,
) -> Document:
    """Add a deployment's token and labels to a document.

    The token is part of the spec: the same release deployed again gets new tasks, and a task that
    returns the token was started for this deployment. The labels are for people, and name the unit
    that deploys a service; no decision rests on the labels about the release.

    Args:
        document: of the release.
        deployment: whose token and release it gets.
        service: the key of the gated service.
        unit: the systemd unit that deploys it.
        askers: a rule of Traefik for the clients that may read the identity.
    """
    made = copy.deepcopy(document)
    _introduce(made, deployment, service, askers)
    for each in made["services"].values():
        _labels(each).update(
            {
                RELEASE_LABEL: deployment.release.label,
                DIGEST_LABEL: deployment.release.digest,
                UNIT_LABEL: unit,
            }
        )
    return made


def isolate(
    document: Document, deployment: Deployment, *, service: str, stack: str, node: str
) -> Document:
    """Make a document that can run beside the live stack without touching it: a preflight.

    Same images, configs, commands and environment; but no published port, one internal network
    without a gateway (so that no certificate can be ordered), empty tmpfs volumes, read-only bind
    mounts, and no label that a proxy could act upon.

    Args:
        document: of the release.
        deployment: of the preflight, with a token of its own.
        service: the key of the gated service.
        stack: the live stack, which the preflight's label names.
        node: the id of this host's node: probes enter the network namespaces of the tasks.
    """
    made = copy.deepcopy(document)
    _introduce(made, deployment, service, ASK_FROM_INSIDE)
    made["networks"] = {ISOLATED: {"driver": "overlay", "internal": True}}
    made.pop("volumes", None)
    for key, config in made.get("configs", {}).items():
        if not config.get("external"):
            # Under its own name it would be the live stack's, and be removed with the preflight.
            name = hashlib.sha256(f"{deployment.token} {key}".encode()).hexdigest()
            config["name"] = f"try-{name[:_NAME_LENGTH]}"
    made["services"] = {key: each for key, each in made["services"].items() if not _is_job(each)}
    for each in made["services"].values():
        _confine(each)
        _trim(each["deploy"], stack, node)
    return made


def locate(document: Document, directory: PurePath) -> Document:
    """Make the paths of config files absolute, for ``docker stack deploy``."""
    made = copy.deepcopy(document)
    for config in made.get("configs", {}).values():
        if "file" in config:
            config["file"] = str(directory / config["file"])
    return made


def use_images(document: Document, images: Mapping[str, str]) -> Document:
    """Replace image references, for example by the id of an image that is only in the archive."""
    made = copy.deepcopy(document)
    for each in made["services"].values():
        each["image"] = images.get(each["image"], each["image"])
    return made


def can_be_isolated(document: Document) -> bool:
    """Return whether a preflight can run beside the live stack: not on the host's network."""
    networks = part(document, "networks")
    host = {key for key in networks if part(networks, key).get("name") == "host"}
    return not any(
        host.intersection(part(each, "networks")) or each.get("network_mode") == "host"
        for each in document["services"].values()
    )


def _is_job(service: Document) -> bool:
    return str(part(service, "deploy").get("mode", "")).endswith("-job")


def _introduce(document: Document, deployment: Deployment, service: str, askers: str) -> None:
    """Set the identity of the gated service's tasks; Swarm expands the template for each task."""
    environment = document["services"][service].setdefault("environment", {})
    environment[TOKEN_VARIABLE] = deployment.token
    environment[TASK_VARIABLE] = "{{.Task.ID}}"
    environment[ASKERS_VARIABLE] = askers


def _confine(service: Document) -> None:
    service.pop("ports", None)
    service.pop("labels", None)
    networks = part(service, "networks")
    aliases = {alias for key in networks for alias in part(networks, key).get("aliases") or ()}
    service["networks"] = {ISOLATED: {"aliases": sorted(aliases)} if aliases else None}
    service["stop_grace_period"] = "1s"
    service["volumes"] = [_harmless(volume) for volume in service.get("volumes") or ()]
    if "interval" in part(service, "healthcheck"):
        # A task counts as running once its first check has passed. Only the preflight's deadline
        # limits how long that takes, so retries are in effect unlimited.
        service["healthcheck"].update(interval="1s", start_period="0s", retries=3600)
    service.setdefault("deploy", {})


def _harmless(volume: Document) -> Document:
    if volume["type"] == "bind":
        return {**volume, "read_only": True}
    return {"type": "tmpfs", "target": volume["target"]}


def _trim(deploy: Document, stack: str, node: str) -> None:
    for key in ("update_config", "rollback_config", "endpoint_mode"):
        deploy.pop(key, None)
    deploy["mode"] = "replicated"
    deploy["replicas"] = 1
    deploy["labels"] = {PREFLIGHT_LABEL: stack, "traefik.enable": "false"}
    # It runs beside the live stack, which may have reserved the node's last resources.
    part(deploy, "resources").pop("reservations", None)
    # A task that ends is evidence: a restart would only hide it.
    deploy["restart_policy"] = {"condition": "none"}
    deploy["placement"] = {"constraints": [f"node.id=={node}"]}


def _labels(service: Document) -> dict[str, str]:
    labels: dict[str, str] = service.setdefault("deploy", {}).setdefault("labels", {})
    return labels
